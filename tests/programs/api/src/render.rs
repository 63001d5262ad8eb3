//! Types and signatures as text, the same for the same thing: definitions by their whole path, our types by the name of what
//! they stand for, generics numbered as they come, an `async fn` as the future that it is. Lifetimes are left out, but for
//! what a borrow says by its `&`.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
};

use crate::rustdoc::{
    Argument, Arguments, AssocType, Binding, Bound, Document, Function, Generics, Id, Inner, ParameterKind, Path,
    Predicate, Signature, Term, Type,
};

/// Which of our definitions stands for which of the client's.
#[derive(Debug, Default)]
pub(crate) struct StandIns {
    client_of_ours: HashMap<String, String>,
    replaced: HashSet<String>,
}

impl StandIns {
    pub(crate) fn add(&mut self, client: &str, ours: &str) {
        self.client_of_ours.insert(ours.to_owned(), client.to_owned());
        self.replaced.insert(client.to_owned());
    }

    /// Whether this definition of the client has one of ours in its place.
    pub(crate) fn replaced(&self, definition: &str) -> bool {
        self.replaced.contains(definition)
    }
}

/// Renders what one item says.
#[derive(Debug)]
pub(crate) struct Renderer<'a> {
    document: &'a Document,
    /// For the adapter's items.
    stand_ins: Option<&'a StandIns>,
    self_type: Option<String>,
    generics: RefCell<Vec<String>>,
}

impl<'a> Renderer<'a> {
    pub(crate) fn new(document: &'a Document, stand_ins: Option<&'a StandIns>) -> Self {
        Self { document, stand_ins, self_type: None, generics: RefCell::default() }
    }

    /// What `Self` means from here on.
    pub(crate) fn with_self(mut self, of: &Type) -> Self {
        self.self_type = Some(self.ty(of));
        self
    }

    /// A method or function; with the generics of the block it stands in.
    pub(crate) fn function(&self, function: &Function, outer: Option<&Generics>) -> String {
        let mut text = String::new();
        for (is, word) in [(function.header.is_const, "const "), (function.header.is_unsafe, "unsafe ")] {
            text += if is { word } else { "" };
        }
        let (inputs, output) = self.signature(&function.sig);
        text += &format!("fn({inputs})");
        if function.header.is_async || function.sig.output.as_ref().is_some_and(|output| self.future(output).is_some())
        {
            let output = function.sig.output.as_ref();
            let output = output.map(|output| self.future(output).unwrap_or_else(|| self.ty(output)));
            text += &format!(" -> future of {}", output.as_deref().unwrap_or("()"));
        } else if !output.is_empty() {
            text += &format!(" -> {output}");
        }
        text + &self.bounds_of(outer.into_iter().chain([&function.generics]))
    }

    /// What a future that is only described as one resolves to.
    fn future(&self, output: &Type) -> Option<String> {
        let Type::ImplTrait(bounds) = output else { return None };
        bounds.iter().find_map(|bound| match bound {
            Bound::Trait { of, .. } if self.name(of.id).ends_with("::future::Future") => {
                let Some(Arguments::AngleBracketed { constraints, .. }) = of.args.as_deref() else { return None };
                constraints.iter().find_map(|constraint| match &constraint.binding {
                    Binding::Equality(Term::Type(of)) if constraint.name == "Output" => Some(self.ty(of)),
                    _ => None,
                })
            }
            _ => None,
        })
    }

    fn signature(&self, signature: &Signature) -> (String, String) {
        let inputs: Vec<_> = signature
            .inputs
            .iter()
            .map(|(name, of)| if name == "self" { self.receiver(of) } else { self.ty(of) })
            .collect();
        (inputs.join(", "), signature.output.as_ref().map(|of| self.ty(of)).unwrap_or_default())
    }

    fn receiver(&self, of: &Type) -> String {
        match of {
            Type::Generic(name) if name == "Self" => "self".into(),
            Type::BorrowedRef { is_mutable: false, to } if matches!(&**to, Type::Generic(name) if name == "Self") => {
                "&self".into()
            }
            Type::BorrowedRef { is_mutable: true, to } if matches!(&**to, Type::Generic(name) if name == "Self") => {
                "&mut self".into()
            }
            of => format!("self: {}", self.ty(of)),
        }
    }

    /// Type parameters in their order, then what is asked of them, in the order of the text.
    pub(crate) fn bounds_of<'g>(&self, generics: impl IntoIterator<Item = &'g Generics>) -> String {
        let mut parameters = Vec::new();
        let mut wanted = Vec::new();
        for generics in generics {
            for parameter in &generics.params {
                match &parameter.kind {
                    ParameterKind::Lifetime(_) => {}
                    ParameterKind::Const { of } => {
                        parameters.push(format!("const {}: {}", self.generic(&parameter.name), self.ty(of)));
                    }
                    ParameterKind::Type { is_synthetic: true, .. } => {}
                    ParameterKind::Type { bounds, default, .. } => {
                        let name = self.generic(&parameter.name);
                        wanted.extend(self.bounds(bounds).into_iter().map(|bound| format!("{name}: {bound}")));
                        let default = default.as_ref().map(|of| format!(" = {}", self.ty(of)));
                        parameters.push(name + &default.unwrap_or_default());
                    }
                }
            }
            for predicate in &generics.where_predicates {
                match predicate {
                    Predicate::Lifetime(_) => {}
                    Predicate::Bound { of, bounds } => {
                        let of = self.ty(of);
                        wanted.extend(self.bounds(bounds).into_iter().map(|bound| format!("{of}: {bound}")));
                    }
                    Predicate::Equal { lhs, rhs } => {
                        wanted.push(format!("{} = {}", self.ty(lhs), self.term(rhs)));
                    }
                }
            }
        }
        // What names no parameter is true or does not compile.
        wanted.retain(|bound: &String| names_parameter(bound));
        wanted.sort();
        wanted.dedup();
        let mut text = String::new();
        if !parameters.is_empty() {
            text += &format!(" for <{}>", parameters.join(", "));
        }
        if !wanted.is_empty() {
            text += &format!(" where {}", wanted.join(", "));
        }
        text
    }

    pub(crate) fn bounds(&self, bounds: &[Bound]) -> Vec<String> {
        let mut bounds: Vec<_> = bounds
            .iter()
            .filter_map(|bound| match bound {
                Bound::Trait { of, modifier } => {
                    let modifier = if modifier == "maybe" { "?" } else { "" };
                    Some(format!("{modifier}{}", self.path(of)))
                }
                Bound::Outlives(_) | Bound::Use(_) => None,
            })
            .collect();
        bounds.sort();
        bounds
    }

    pub(crate) fn assoc_type(&self, of: &AssocType) -> String {
        let value = of.value.as_ref().map(|value| format!(" = {}", self.ty(value))).unwrap_or_default();
        let bounds = self.bounds(&of.bounds).join(" + ");
        format!("type {bounds}{value}{}", self.bounds_of([&of.generics]))
    }

    /// Associated types of an implementation, as they are written in a bound.
    pub(crate) fn assoc_values(&self, items: &[Id]) -> String {
        let mut values: Vec<_> = items
            .iter()
            .filter_map(|id| self.document.index.get(id))
            .filter_map(|item| match &item.inner {
                Inner::AssocType(of) => Some(format!("{} = {}", item.name(), self.ty(of.value.as_ref()?))),
                _ => None,
            })
            .collect();
        values.sort();
        if values.is_empty() { String::new() } else { format!(" with {}", values.join(", ")) }
    }

    pub(crate) fn path(&self, path: &Path) -> String {
        let name = self.name(path.id);
        match path.args.as_deref() {
            None => name,
            Some(Arguments::Parenthesized { inputs, output }) => {
                let output = output.as_ref().map(|of| format!(" -> {}", self.ty(of))).unwrap_or_default();
                format!("{name}({}){output}", self.list(inputs))
            }
            Some(Arguments::ReturnTypeNotation) => format!("{name}(..)"),
            Some(Arguments::AngleBracketed { args, constraints }) => {
                let mut all: Vec<_> = args
                    .iter()
                    .filter_map(|argument| match argument {
                        Argument::Lifetime(_) => None,
                        Argument::Type(of) => Some(self.ty(of)),
                        Argument::Const(value) => Some(value["expr"].as_str().unwrap_or_default().to_owned()),
                        Argument::Infer => Some("_".into()),
                    })
                    .collect();
                all.extend(constraints.iter().map(|constraint| match &constraint.binding {
                    Binding::Equality(term) => format!("{} = {}", constraint.name, self.term(term)),
                    Binding::Constraint(bounds) => {
                        format!("{}: {}", constraint.name, self.bounds(bounds).join(" + "))
                    }
                }));
                if all.is_empty() { name } else { format!("{name}<{}>", all.join(", ")) }
            }
        }
    }

    fn name(&self, id: Id) -> String {
        let definition = self.document.definition(id);
        let Some(stand_ins) = self.stand_ins else { return definition };
        match stand_ins.client_of_ours.get(&definition) {
            Some(client) => client.clone(),
            None if stand_ins.replaced(&definition) => format!("raw {definition}"),
            None => definition,
        }
    }

    fn term(&self, term: &Term) -> String {
        match term {
            Term::Type(of) => self.ty(of),
            Term::Constant(value) => value["expr"].as_str().unwrap_or_default().to_owned(),
        }
    }

    fn generic(&self, name: &str) -> String {
        if name == "Self" {
            return self.self_type.clone().unwrap_or_else(|| "Self".into());
        }
        let mut generics = self.generics.borrow_mut();
        let number = generics.iter().position(|known| known == name).unwrap_or_else(|| {
            generics.push(name.to_owned());
            generics.len() - 1
        });
        format!("T{number}")
    }

    fn list(&self, types: &[Type]) -> String {
        types.iter().map(|of| self.ty(of)).collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn ty(&self, of: &Type) -> String {
        match of {
            Type::ResolvedPath(path) => self.path(path),
            Type::DynTrait { traits } => {
                let mut traits: Vec<_> = traits.iter().map(|of| self.path(&of.of)).collect();
                traits.sort();
                format!("dyn {}", traits.join(" + "))
            }
            Type::Generic(name) => self.generic(name),
            Type::Primitive(name) => name.clone(),
            Type::FunctionPointer(pointer) => {
                let (inputs, output) = self.signature(&pointer.sig);
                format!("fn({inputs}) -> {output}")
            }
            Type::Tuple(types) => format!("({})", self.list(types)),
            Type::Slice(of) => format!("[{}]", self.ty(of)),
            Type::Array { of, len } => format!("[{}; {len}]", self.ty(of)),
            Type::ImplTrait(bounds) => format!("impl {}", self.bounds(bounds).join(" + ")),
            Type::Infer => "_".into(),
            Type::RawPointer { is_mutable, to } => {
                format!("*{} {}", if *is_mutable { "mut" } else { "const" }, self.ty(to))
            }
            Type::BorrowedRef { is_mutable, to } => {
                format!("&{}{}", if *is_mutable { "mut " } else { "" }, self.ty(to))
            }
            Type::QualifiedPath { name, self_type, of } => {
                let of = of.as_ref().map(|path| self.path(path)).unwrap_or_default();
                format!("<{} as {of}>::{name}", self.ty(self_type))
            }
        }
    }
}

fn names_parameter(bound: &str) -> bool {
    let mut words = bound.split(|character: char| !character.is_alphanumeric());
    words.any(|word| {
        let number = word.strip_prefix('T').unwrap_or_default();
        word == "Self" || !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}
