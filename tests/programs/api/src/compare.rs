//! A client's public API beside its adapter's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    Result,
    render::{Renderer, StandIns},
    rustdoc::{Document, Function, Generics, Id, Impl, Inner, Item, StructKind, Trait, Type, TypeAlias, VariantKind},
    surface::{Crates, Namespace, Surface, Target},
};

/// Auto traits that user code can name.
const AUTO_TRAITS: [&str; 5] = ["Send", "Sync", "Unpin", "UnwindSafe", "RefUnwindSafe"];
/// What a wrapper has for those who want in or out: raw types are its purpose.
const WAYS_IN_AND_OUT: [&str; 4] = ["get_ref", "get_mut", "into_inner", "raw"];
/// The same, as traits.
const TRAITS_IN_AND_OUT: [&str; 5] = ["::Deref", "::DerefMut", "::From<", "::AsRef<", "::Borrow<"];

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum What {
    /// The client has it, and we have not.
    Missing,
    /// Both have it, and it is not the same.
    Differs,
    /// A raw type can be reached where ours stands in its place.
    Leaks,
    /// We have it outside of our own module, and the client has not.
    Added,
}

/// One item that is not as the client's.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Finding {
    pub(crate) client: String,
    pub(crate) what: What,
    pub(crate) subject: String,
    /// Both sides, where that says more.
    pub(crate) detail: Option<String>,
}

/// What came of one client.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) findings: BTreeSet<Finding>,
    /// Public paths of the client.
    pub(crate) paths: usize,
    /// Those that lead to a definition of ours.
    pub(crate) ours: BTreeSet<String>,
    /// Methods, fields, variants, implementations and trait items that were compared.
    pub(crate) items: usize,
}

pub(crate) fn compare(crates: &Crates, client: &str, adapter: &str) -> Result<Comparison> {
    let mut comparer = Comparer {
        crates,
        client,
        client_surface: crates.surface(client)?,
        our_surface: crates.surface(adapter)?,
        stand_ins: StandIns::default(),
        comparison: Comparison { findings: BTreeSet::new(), paths: 0, ours: BTreeSet::new(), items: 0 },
    };
    comparer.run(adapter, crates.document(adapter)?);
    Ok(comparer.comparison)
}

struct Comparer<'a> {
    crates: &'a Crates,
    client: &'a str,
    client_surface: Surface,
    our_surface: Surface,
    stand_ins: StandIns,
    comparison: Comparison,
}

/// An item with what it takes to render it.
#[derive(Clone, Copy)]
struct Side<'a> {
    document: &'a Document,
    item: &'a Item,
    /// For the adapter's, and for what it hands on of the client.
    stand_ins: Option<&'a StandIns>,
}

impl Comparer<'_> {
    fn run(&mut self, adapter: &str, our_document: &Document) {
        let client_surface = std::mem::take(&mut self.client_surface);
        let our_surface = std::mem::take(&mut self.our_surface);
        self.comparison.paths = client_surface.len();

        let mut pairs = BTreeMap::new();
        for (key @ (_, path), theirs) in &client_surface {
            match our_surface.get(key) {
                None => self.finding(What::Missing, format!("{} {path}", theirs.kind), None),
                Some(ours) if ours.definition == theirs.definition => {}
                Some(ours) if ours.definition.starts_with(&format!("{adapter}::")) => {
                    if theirs.kind != "module" {
                        self.stand_ins.add(&theirs.definition, &ours.definition);
                        self.comparison.ours.insert(path.clone());
                        pairs.insert(ours.definition.clone(), (path.as_str(), theirs, ours));
                    }
                }
                Some(ours) => self.differs(path, &theirs.definition, &ours.definition),
            }
        }

        for (key @ (_, path), target) in &our_surface {
            if self.stand_ins.replaced(&target.definition) {
                self.finding(What::Leaks, format!("{} {path}", target.kind), Some(target.definition.clone()));
            } else if !client_surface.contains_key(key) {
                self.finding(What::Added, format!("{} {path}", target.kind), Some(target.definition.clone()));
            }
        }

        let stand_ins = std::mem::take(&mut self.stand_ins);
        for (path, theirs, ours) in pairs.into_values() {
            self.pair(path, theirs, ours, &stand_ins);
        }
        let our_foreign = implementations_in(our_document, &stand_ins);
        let mut seen = BTreeSet::new();
        for ((namespace, path), target) in &our_surface {
            let is_handed_on = target.definition.starts_with(&format!("{}::", self.client));
            if is_handed_on && *namespace != Namespace::Glob && seen.insert(&target.definition) {
                self.handed_on(path, target, &stand_ins, &our_foreign);
            }
        }
    }

    fn finding(&mut self, what: What, subject: String, detail: Option<String>) {
        self.comparison.findings.insert(Finding { client: self.client.to_owned(), what, subject, detail });
    }

    fn differs(&mut self, subject: &str, theirs: &str, ours: &str) {
        let detail = format!("client: {theirs}\n          ours:   {ours}");
        self.finding(What::Differs, subject.to_owned(), Some(detail));
    }

    /// Two texts that have to be the same.
    fn same(&mut self, subject: &str, theirs: &str, ours: &str) {
        self.comparison.items += 1;
        if theirs != ours {
            self.differs(subject, theirs, ours);
        }
    }

    /// A definition of ours in the place of one of the client's.
    fn pair(&mut self, path: &str, theirs: &Target, ours: &Target, stand_ins: &StandIns) {
        let (Some((client_document, client_item)), Some((document, item))) =
            (self.crates.find(theirs), self.crates.find(ours))
        else {
            return self.finding(What::Differs, path.to_owned(), Some("rustdoc says nothing about it".into()));
        };
        let client = Side { document: client_document, item: client_item, stand_ins: None };
        let our = Side { document, item, stand_ins: Some(stand_ins) };
        match (&client_item.inner, &item.inner) {
            (Inner::Struct(_) | Inner::Enum(_), Inner::Struct(_) | Inner::Enum(_)) => self.types(path, client, our),
            (Inner::Trait(theirs), Inner::Trait(ours)) => self.traits(path, (client, theirs), (our, ours)),
            (Inner::Function(theirs), Inner::Function(ours)) => {
                self.same(path, &client.renderer().function(theirs, None), &our.renderer().function(ours, None));
            }
            (Inner::TypeAlias(theirs), Inner::TypeAlias(ours)) => {
                let text = |side: Side<'_>, alias: &TypeAlias| {
                    let renderer = side.renderer();
                    renderer.ty(&alias.target) + &renderer.bounds_of([&alias.generics])
                };
                self.same(path, &text(client, theirs), &text(our, ours));
            }
            (Inner::Constant(theirs), Inner::Constant(ours)) => {
                self.same(path, &client.renderer().ty(&theirs.of), &our.renderer().ty(&ours.of));
            }
            (Inner::Static(theirs), Inner::Static(ours)) => {
                self.same(path, &client.renderer().ty(&theirs.of), &our.renderer().ty(&ours.of));
            }
            (Inner::Macro(theirs), Inner::Macro(ours)) => self.same(path, theirs, ours),
            _ => self.differs(path, &theirs.kind, &ours.kind),
        }
    }

    fn types(&mut self, path: &str, theirs: Side<'_>, ours: Side<'_>) {
        self.same(&format!("{path}<…>"), &theirs.generics(), &ours.generics());
        self.same(
            &format!("{path} #[non_exhaustive]"),
            &theirs.item.is_non_exhaustive().to_string(),
            &ours.item.is_non_exhaustive().to_string(),
        );

        let (their_fields, our_fields) = (theirs.fields(), ours.fields());
        for (name, field) in &their_fields {
            let subject = format!("{path}.{name}");
            match our_fields.get(name) {
                Some(ours) => self.same(&subject, field, ours),
                None => self.finding(What::Missing, format!("field {subject}"), Some(field.clone())),
            }
        }
        for (name, field) in our_fields.iter().filter(|(name, _)| !their_fields.contains_key(*name)) {
            self.finding(What::Added, format!("field {path}.{name}"), Some(field.clone()));
        }

        self.methods(path, theirs, ours);
        self.implementations(path, theirs, ours);
    }

    fn methods(&mut self, path: &str, theirs: Side<'_>, ours: Side<'_>) {
        let our_methods = ours.methods();
        let their_methods = theirs.methods();
        let by_deref = ours.derefs_to(theirs);
        for method in &their_methods {
            self.comparison.items += 1;
            let subject = format!("{path}::{}", method.name);
            if our_methods.iter().any(|ours| ours.name == method.name && ours.text == method.text) {
                continue;
            }
            let same_name: Vec<_> = our_methods.iter().filter(|ours| ours.name == method.name).collect();
            let same_type = same_name.iter().filter(|ours| ours.of == method.of).collect::<Vec<_>>();
            if let Some(ours) = same_type.first().copied().or(same_name.first()) {
                // Of several implementations, one that stands for each; ours may be for fewer types.
                self.differs(&subject, &method.text, &ours.text);
                continue;
            }
            let reached = method.text.contains("fn(&self") && by_deref >= ByDeref::Shared
                || method.text.contains("fn(&mut self") && by_deref == ByDeref::Mutable;
            if !reached {
                self.finding(What::Missing, format!("method {subject}"), Some(method.text.clone()));
            } else if let Some(handed_on) = method.leaks(theirs.document, ours.stand_ins) {
                self.finding(What::Leaks, format!("method {subject}, by Deref"), Some(handed_on));
            }
        }
        for ours in our_methods {
            let is_clients = their_methods.iter().any(|theirs| theirs.name == ours.name);
            if !is_clients && ours.text.contains("raw ") && !WAYS_IN_AND_OUT.contains(&ours.name.as_str()) {
                self.finding(What::Leaks, format!("method {path}::{}", ours.name), Some(ours.text));
            }
        }
    }

    fn implementations(&mut self, path: &str, theirs: Side<'_>, ours: Side<'_>) {
        let our_impls = ours.implementations();
        for implementation in theirs.implementations() {
            self.comparison.items += 1;
            let subject = format!("{path}: {}", implementation.of);
            let same: Vec<_> = our_impls.iter().filter(|ours| ours.of == implementation.of).collect();
            if same.is_empty() {
                self.finding(What::Missing, format!("impl {subject}"), None);
            } else if !same.iter().any(|ours| ours.text == implementation.text) {
                self.differs(&format!("impl {subject}"), &implementation.text, &same[0].text);
            }
        }
        for ours in our_impls {
            let in_or_out = TRAITS_IN_AND_OUT.iter().any(|of| ours.of.contains(of)) || ours.of.starts_with("raw ");
            if !in_or_out && ours.text.contains("raw ") {
                self.finding(What::Leaks, format!("impl {path}: {}", ours.of), Some(ours.text));
            }
        }
    }

    fn traits(&mut self, path: &str, (client, theirs): (Side<'_>, &Trait), (our, ours): (Side<'_>, &Trait)) {
        let head = |side: Side<'_>, of: &Trait| {
            let renderer = side.renderer();
            let generics = renderer.bounds_of([&of.generics]);
            let object = if of.is_dyn_compatible { "" } else { ", not for dyn" };
            format!("trait: {}{generics}{object}", renderer.bounds(&of.bounds).join(" + "))
        };
        self.same(path, &head(client, theirs), &head(our, ours));

        let (their_items, our_items) = (client.trait_items(theirs), our.trait_items(ours));
        for (name, text) in &their_items {
            let subject = format!("{path}::{name}");
            match our_items.get(name) {
                Some(ours) => self.same(&subject, text, ours),
                None => self.finding(What::Missing, format!("trait item {subject}"), Some(text.clone())),
            }
        }
        for (name, text) in our_items.iter().filter(|(name, _)| !their_items.contains_key(*name)) {
            self.finding(What::Added, format!("trait item {path}::{name}"), Some(text.clone()));
        }

        // An implementation for all that implement the client's trait stands for each of theirs.
        let our_implementors = our.implementors(ours);
        let raw = format!("raw {}", client.document.definition_of(client.item));
        let covered = our_implementors.iter().any(|ours| ours.text.starts_with("T0 ") && ours.text.contains(&raw));
        for theirs in client.implementors(theirs) {
            self.comparison.items += 1;
            if !covered && !our_implementors.iter().any(|ours| ours.of == theirs.of) {
                self.finding(What::Missing, format!("impl {path} for {}", theirs.of), Some(theirs.text));
            }
        }
    }

    /// An item that is the client's own: nothing that it says may name what has ours in its place.
    fn handed_on(&mut self, path: &str, target: &Target, stand_ins: &StandIns, our_foreign: &BTreeSet<String>) {
        let Some((document, item)) = self.crates.find(target) else { return };
        let side = Side { document, item, stand_ins: Some(stand_ins) };
        let mut said = BTreeMap::new();
        match &item.inner {
            Inner::Struct(_) | Inner::Enum(_) => {
                for (name, text) in side.fields() {
                    said.insert(format!("field {path}.{name}"), text);
                }
                for method in side.methods() {
                    said.insert(format!("method {path}::{}", method.name), method.text);
                }
                // For a trait that has ours in its place, the implementors are compared.
                for implementation in side.implementations().into_iter().filter(|of| !of.of.starts_with("raw ")) {
                    // Of one that is for a raw type, there may be another of ours, for ours.
                    if !our_foreign.contains(&implementation.text.replace("raw ", "")) {
                        said.insert(format!("impl {path}: {}", implementation.of), implementation.text);
                    }
                }
            }
            Inner::Trait(of) => {
                let renderer = side.renderer();
                let bounds = renderer.bounds(&of.bounds).join(" + ");
                said.insert(format!("trait {path}"), bounds + &renderer.bounds_of([&of.generics]));
                for (name, text) in side.trait_items(of) {
                    said.insert(format!("trait item {path}::{name}"), text);
                }
            }
            Inner::Function(function) => {
                said.insert(format!("function {path}"), side.renderer().function(function, None));
            }
            Inner::TypeAlias(alias) => {
                said.insert(format!("type alias {path}"), side.renderer().ty(&alias.target));
            }
            Inner::Constant(constant) => {
                said.insert(format!("constant {path}"), side.renderer().ty(&constant.of));
            }
            Inner::Static(of) => {
                said.insert(format!("static {path}"), side.renderer().ty(&of.of));
            }
            _ => {}
        }
        self.comparison.items += said.len();
        for (subject, text) in said.into_iter().filter(|(_, text)| text.contains("raw ")) {
            self.finding(What::Leaks, subject, Some(text));
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum ByDeref {
    Not,
    Shared,
    Mutable,
}

struct Method<'a> {
    name: String,
    /// The type as the block says it, with arguments.
    of: String,
    text: String,
    function: &'a Function,
}

impl Method<'_> {
    /// Its text, where it names a raw type to those who reach it by `Deref`.
    fn leaks(&self, document: &Document, stand_ins: Option<&StandIns>) -> Option<String> {
        let text = Renderer::new(document, stand_ins).function(self.function, None);
        (text.contains("raw ") || text.contains("Self")).then_some(text)
    }
}

/// An implementation of a trait.
struct Implementation {
    /// The trait with its arguments; of a trait's implementors, the type.
    of: String,
    /// With type, bounds and associated types.
    text: String,
}

impl Implementation {
    /// `None` for what nobody can name or use.
    fn new(renderer: Renderer<'_>, block: &Impl) -> Option<Self> {
        let target = renderer.ty(&block.target);
        let renderer = renderer.with_self(&block.target);
        let of = renderer.path(block.of.as_ref()?);
        let last = of.rsplit("::").next().unwrap_or_default();
        let counts = if block.is_synthetic {
            AUTO_TRAITS.contains(&last)
        } else {
            !["StructuralPartialEq", "Drop"].contains(&last)
        };
        let values = renderer.assoc_values(&block.items);
        let bounds = renderer.bounds_of([&block.generics]);
        counts.then(|| Self { text: format!("{of} for {target}{values}{bounds}"), of })
    }
}

/// All that a crate implements, also for others' types.
fn implementations_in(document: &Document, stand_ins: &StandIns) -> BTreeSet<String> {
    let blocks = document.index.values().filter_map(|item| match &item.inner {
        Inner::Impl(block) => Implementation::new(Renderer::new(document, Some(stand_ins)), block),
        _ => None,
    });
    blocks.map(|implementation| implementation.text).collect()
}

impl<'a> Side<'a> {
    fn renderer(self) -> Renderer<'a> {
        Renderer::new(self.document, self.stand_ins)
    }

    fn item(self, id: Id) -> Option<&'a Item> {
        self.document.index.get(&id)
    }

    fn generics(self) -> String {
        match &self.item.inner {
            Inner::Struct(of) => self.renderer().bounds_of([&of.generics]),
            Inner::Enum(of) => self.renderer().bounds_of([&of.generics]),
            _ => String::new(),
        }
    }

    fn own_generics(self) -> Option<&'a Generics> {
        match &self.item.inner {
            Inner::Struct(of) => Some(&of.generics),
            Inner::Enum(of) => Some(&of.generics),
            _ => None,
        }
    }

    /// Public fields, variants and their fields; and whether there is anything private beside public ones.
    fn fields(self) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        match &self.item.inner {
            Inner::Struct(of) => match &of.kind {
                StructKind::Unit => {
                    fields.insert("(unit)".into(), String::new());
                }
                StructKind::Tuple(ids) if ids.iter().any(Option::is_some) => self.tuple("", ids, &mut fields),
                StructKind::Plain { fields: ids, has_stripped_fields } if !ids.is_empty() => {
                    for &id in ids {
                        self.field("", id, &mut fields);
                    }
                    if *has_stripped_fields {
                        fields.insert("(private)".into(), String::new());
                    }
                }
                StructKind::Tuple(_) | StructKind::Plain { .. } => {}
            },
            Inner::Enum(of) => {
                for variant in of.variants.iter().filter_map(|&id| self.item(id)) {
                    let name = variant.name();
                    let Inner::Variant(variant) = &variant.inner else { continue };
                    fields.insert(name.to_owned(), String::new());
                    match &variant.kind {
                        VariantKind::Plain => {}
                        VariantKind::Tuple(ids) => self.tuple(&format!("{name}."), ids, &mut fields),
                        VariantKind::Struct { fields: ids } => {
                            for &id in ids {
                                self.field(&format!("{name}."), id, &mut fields);
                            }
                        }
                    }
                }
            }
            _ => {}
        }
        fields
    }

    fn tuple(self, of: &str, ids: &[Option<Id>], fields: &mut BTreeMap<String, String>) {
        for (number, id) in ids.iter().enumerate() {
            match id {
                Some(id) => self.field(of, *id, fields),
                None => {
                    fields.insert(format!("{of}{number} (private)"), String::new());
                }
            }
        }
    }

    fn field(self, of: &str, id: Id, fields: &mut BTreeMap<String, String>) {
        if let Some(field) = self.item(id)
            && let Inner::StructField(ty) = &field.inner
        {
            let renderer = self.renderer();
            if let Some(generics) = self.own_generics() {
                renderer.bounds_of([generics]);
            }
            fields.insert(format!("{of}{}", field.name()), renderer.ty(ty));
        }
    }

    fn impls(self) -> impl Iterator<Item = &'a Impl> {
        let ids: &[Id] = match &self.item.inner {
            Inner::Struct(of) => &of.impls,
            Inner::Enum(of) => &of.impls,
            _ => &[],
        };
        ids.iter().filter_map(move |&id| match &self.item(id)?.inner {
            Inner::Impl(of) => Some(of),
            _ => None,
        })
    }

    /// Public methods and associated functions.
    fn methods(self) -> Vec<Method<'a>> {
        let mut methods = Vec::new();
        for block in self.impls().filter(|block| block.of.is_none()) {
            for item in block.items.iter().filter_map(|&id| self.item(id)).filter(|item| item.is_public()) {
                if let Inner::Function(function) = &item.inner {
                    let renderer = self.renderer().with_self(&block.target);
                    let of = renderer.ty(&block.target);
                    let text = renderer.function(function, Some(&block.generics));
                    methods.push(Method { name: item.name().to_owned(), of, text, function });
                }
            }
        }
        methods
    }

    /// Whether the type is this one, or a reference to it. Implementations for others that name it are told with it.
    fn is_for(self, target: &Type) -> bool {
        match target {
            Type::ResolvedPath(path) => path.id == self.item.id,
            Type::BorrowedRef { to, .. } => self.is_for(to),
            _ => false,
        }
    }

    /// What the type implements by itself, not because everything does.
    fn implementations(self) -> Vec<Implementation> {
        self.impls()
            .filter(|block| !block.is_negative && block.blanket_impl.is_none() && self.is_for(&block.target))
            .filter_map(|block| Implementation::new(self.renderer(), block))
            .collect()
    }

    /// What implements a trait.
    fn implementors(self, of: &Trait) -> Vec<Implementation> {
        of.implementations
            .iter()
            .filter_map(|&id| match &self.item(id)?.inner {
                Inner::Impl(block) => {
                    let renderer = self.renderer();
                    let target = renderer.ty(&block.target);
                    let path = block.of.as_ref().map(|of| renderer.path(of)).unwrap_or_default();
                    let text = format!("{target} as {path}{}", renderer.bounds_of([&block.generics]));
                    Some(Implementation { of: target, text })
                }
                _ => None,
            })
            .collect()
    }

    /// Whether the client's type is reached from this one, which stands for it.
    fn derefs_to(self, client: Side<'_>) -> ByDeref {
        let raw = format!("Target = raw {}", client.document.definition_of(client.item));
        let implementations = self.implementations();
        if !implementations.iter().any(|of| of.of.ends_with("::Deref") && of.text.contains(&raw)) {
            ByDeref::Not
        } else if implementations.iter().any(|of| of.of.ends_with("::DerefMut")) {
            ByDeref::Mutable
        } else {
            ByDeref::Shared
        }
    }

    fn trait_items(self, of: &Trait) -> BTreeMap<String, String> {
        of.items
            .iter()
            .filter_map(|&id| self.item(id))
            .filter_map(|item| {
                let renderer = self.renderer();
                let generics = renderer.bounds_of([&of.generics]);
                let text = match &item.inner {
                    Inner::Function(function) => {
                        let provided = if function.has_body { " (provided)" } else { "" };
                        renderer.function(function, None) + provided
                    }
                    Inner::AssocType(of) => renderer.assoc_type(of),
                    Inner::AssocConst(of) => format!("const {}", renderer.ty(&of.of)),
                    _ => return None,
                };
                Some((item.name().to_owned(), text + &generics))
            })
            .collect()
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Differs => "differs",
            Self::Leaks => "leaks",
            Self::Added => "added",
        })
    }
}

impl fmt::Display for Finding {
    /// As the list of what is expected has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.client, self.what, self.subject)
    }
}
