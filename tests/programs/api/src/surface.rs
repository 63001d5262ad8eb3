//! The public paths of a crate, and the item that each of them leads to.

use std::collections::{BTreeMap, HashMap};

use crate::{
    Result,
    rustdoc::{Document, Id, Inner, Item},
};

/// The module that holds what an adapter adds. Its items are no part of the client's surface.
const OURS: &str = "otel";

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Hash)]
pub(crate) enum Namespace {
    Type,
    Value,
    Macro,
    /// Everything in a module of a crate that is not looked into.
    Glob,
}

/// Where a public path leads.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The path of the definition.
    pub(crate) definition: String,
    pub(crate) kind: String,
}

/// Public paths, without the crate's name.
pub(crate) type Surface = BTreeMap<(Namespace, String), Target>;

/// The crates that are looked into.
#[derive(Debug, Default)]
pub(crate) struct Crates {
    documents: HashMap<String, Document>,
    /// Of every item, its definition's path with its namespace.
    definitions: HashMap<(Namespace, String), (String, Id)>,
}

impl Crates {
    pub(crate) fn new(documents: impl IntoIterator<Item = (String, Document)>) -> Self {
        let mut crates = Self::default();
        for (name, document) in documents {
            for (&id, summary) in &document.paths {
                if summary.crate_id == 0 && document.index.contains_key(&id) {
                    let definition = (namespace(&summary.kind), summary.path.join("::"));
                    crates.definitions.insert(definition, (name.clone(), id));
                }
            }
            crates.documents.insert(name, document);
        }
        crates
    }

    pub(crate) fn document(&self, name: &str) -> Result<&Document> {
        self.documents.get(name).ok_or_else(|| format!("there is no documentation of {name}").into())
    }

    /// An item of one of these crates, by where it is defined.
    pub(crate) fn find(&self, target: &Target) -> Option<(&Document, &Item)> {
        let (name, id) = self.definitions.get(&(namespace(&target.kind), target.definition.clone()))?;
        let document = self.documents.get(name)?;
        Some((document, document.index.get(id)?))
    }

    pub(crate) fn surface(&self, name: &str) -> Result<Surface> {
        let document = self.document(name)?;
        let root = document.index.get(&document.root).ok_or_else(|| format!("{name} has no root module"))?;
        let mut surface = Surface::new();
        self.walk(document, root, "", &mut Vec::new(), &mut surface);
        Ok(surface)
    }

    fn walk(&self, document: &Document, module: &Item, path: &str, above: &mut Vec<String>, surface: &mut Surface) {
        for ((namespace, name), target) in self.members(document, module, &mut Vec::new()) {
            if path.is_empty() && name == OURS {
                continue;
            }
            let path = if path.is_empty() { name } else { format!("{path}::{name}") };
            surface.insert((namespace, path.clone()), target.clone());
            if target.kind == "module"
                && !above.contains(&target.definition)
                && let Some((document, module)) = self.find(&target)
            {
                above.push(target.definition);
                self.walk(document, module, &path, above, surface);
                above.pop();
            }
        }
    }

    /// What a module has by name, and then what it has by globs, as the compiler looks a name up.
    fn members(
        &self,
        document: &Document,
        module: &Item,
        globs: &mut Vec<String>,
    ) -> BTreeMap<(Namespace, String), Target> {
        let mut named = BTreeMap::new();
        let mut by_glob = BTreeMap::new();
        let Inner::Module(module) = &module.inner else { return named };
        for &id in &module.items {
            let Some(item) = document.index.get(&id) else { continue };
            if !item.is_public() {
                continue;
            }
            match &item.inner {
                Inner::Use(used) => {
                    let target = match used.id.and_then(|id| document.paths.get(&id)) {
                        Some(summary) => Target { definition: summary.path.join("::"), kind: summary.kind.clone() },
                        None => Target { definition: used.source.clone(), kind: "module".into() },
                    };
                    if !used.is_glob {
                        named.insert((namespace(&target.kind), used.name.clone()), target);
                    } else if let Some((document, module)) = self.find(&target) {
                        if !globs.contains(&target.definition) {
                            globs.push(target.definition);
                            by_glob.extend(self.members(document, module, globs));
                        }
                    } else {
                        by_glob.insert((Namespace::Glob, format!("*{}", target.definition)), target);
                    }
                }
                Inner::Impl(_) => {}
                inner => {
                    let kind = kind(inner).to_owned();
                    let target = Target { definition: document.definition(id), kind };
                    named.insert((namespace(&target.kind), item.name().to_owned()), target);
                }
            }
        }
        by_glob.extend(named);
        by_glob
    }
}

/// As rustdoc's table of paths says it.
fn kind(inner: &Inner) -> &'static str {
    match inner {
        Inner::Module(_) => "module",
        Inner::ExternCrate(_) => "extern_crate",
        Inner::Use(_) => "use",
        Inner::Union(_) => "union",
        Inner::Struct(_) => "struct",
        Inner::StructField(_) => "struct_field",
        Inner::Enum(_) => "enum",
        Inner::Variant(_) => "variant",
        Inner::Function(_) => "function",
        Inner::Trait(_) => "trait",
        Inner::TraitAlias(_) => "trait_alias",
        Inner::Impl(_) => "impl",
        Inner::TypeAlias(_) => "type_alias",
        Inner::Constant(_) => "constant",
        Inner::Static(_) => "static",
        Inner::ExternType => "extern_type",
        Inner::Macro(_) => "macro",
        Inner::ProcMacro(_) => "proc_macro",
        Inner::Primitive(_) => "primitive",
        Inner::AssocConst(_) => "assoc_const",
        Inner::AssocType(_) => "assoc_type",
    }
}

fn namespace(kind: &str) -> Namespace {
    match kind {
        "function" | "constant" | "static" => Namespace::Value,
        "macro" | "proc_macro" | "proc_attribute" | "proc_derive" => Namespace::Macro,
        _ => Namespace::Type,
    }
}
