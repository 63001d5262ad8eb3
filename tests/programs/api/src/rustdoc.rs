//! What is read of rustdoc's JSON: its stable core, and no more.
//!
//! The format has no promise of stability, and its version changes with about every second toolchain. Unknown fields are
//! skipped; what is missing or new where it is looked at is an error that names the version.

use std::collections::HashMap;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

pub(crate) type Id = u32;

#[derive(Debug, Deserialize)]
pub(crate) struct Document {
    pub(crate) root: Id,
    pub(crate) crate_version: Option<String>,
    pub(crate) index: HashMap<Id, Item>,
    pub(crate) paths: HashMap<Id, Summary>,
}

/// An item of any crate, by the path of its definition.
#[derive(Debug, Deserialize)]
pub(crate) struct Summary {
    pub(crate) crate_id: u32,
    pub(crate) path: Vec<String>,
    pub(crate) kind: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Item {
    pub(crate) id: Id,
    pub(crate) name: Option<String>,
    pub(crate) visibility: Value,
    pub(crate) attrs: Vec<Value>,
    pub(crate) inner: Inner,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Inner {
    Module(Module),
    ExternCrate(IgnoredAny),
    Use(Use),
    Union(IgnoredAny),
    Struct(Struct),
    StructField(Type),
    Enum(Enum),
    Variant(Variant),
    Function(Function),
    Trait(Trait),
    TraitAlias(IgnoredAny),
    Impl(Impl),
    TypeAlias(TypeAlias),
    Constant(Constant),
    Static(Static),
    ExternType,
    Macro(String),
    ProcMacro(IgnoredAny),
    Primitive(IgnoredAny),
    AssocConst(Constant),
    AssocType(AssocType),
}

#[derive(Debug, Deserialize)]
pub(crate) struct Module {
    pub(crate) items: Vec<Id>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Use {
    pub(crate) source: String,
    pub(crate) name: String,
    pub(crate) id: Option<Id>,
    pub(crate) is_glob: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Struct {
    pub(crate) kind: StructKind,
    pub(crate) generics: Generics,
    pub(crate) impls: Vec<Id>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StructKind {
    Unit,
    Tuple(Vec<Option<Id>>),
    Plain { fields: Vec<Id>, has_stripped_fields: bool },
}

#[derive(Debug, Deserialize)]
pub(crate) struct Enum {
    pub(crate) generics: Generics,
    pub(crate) variants: Vec<Id>,
    pub(crate) impls: Vec<Id>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Variant {
    pub(crate) kind: VariantKind,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VariantKind {
    Plain,
    Tuple(Vec<Option<Id>>),
    Struct { fields: Vec<Id> },
}

#[derive(Debug, Deserialize)]
pub(crate) struct Function {
    pub(crate) sig: Signature,
    pub(crate) generics: Generics,
    pub(crate) header: Header,
    pub(crate) has_body: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Signature {
    pub(crate) inputs: Vec<(String, Type)>,
    pub(crate) output: Option<Type>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Header {
    pub(crate) is_const: bool,
    pub(crate) is_unsafe: bool,
    pub(crate) is_async: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Trait {
    pub(crate) items: Vec<Id>,
    pub(crate) generics: Generics,
    pub(crate) bounds: Vec<Bound>,
    pub(crate) implementations: Vec<Id>,
    pub(crate) is_dyn_compatible: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Impl {
    pub(crate) generics: Generics,
    #[serde(rename = "trait")]
    pub(crate) of: Option<Path>,
    #[serde(rename = "for")]
    pub(crate) target: Type,
    pub(crate) items: Vec<Id>,
    pub(crate) is_negative: bool,
    pub(crate) is_synthetic: bool,
    pub(crate) blanket_impl: Option<Type>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TypeAlias {
    #[serde(rename = "type")]
    pub(crate) target: Type,
    pub(crate) generics: Generics,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Constant {
    #[serde(rename = "type")]
    pub(crate) of: Type,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Static {
    #[serde(rename = "type")]
    pub(crate) of: Type,
}

#[derive(Debug, Deserialize)]
pub(crate) struct AssocType {
    pub(crate) generics: Generics,
    pub(crate) bounds: Vec<Bound>,
    /// Its value in an implementation, its default in a trait.
    #[serde(rename = "type")]
    pub(crate) value: Option<Type>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Type {
    ResolvedPath(Path),
    DynTrait {
        traits: Vec<PolyTrait>,
    },
    Generic(String),
    Primitive(String),
    FunctionPointer(Box<FunctionPointer>),
    Tuple(Vec<Type>),
    Slice(Box<Type>),
    Array {
        #[serde(rename = "type")]
        of: Box<Type>,
        len: String,
    },
    ImplTrait(Vec<Bound>),
    Infer,
    RawPointer {
        is_mutable: bool,
        #[serde(rename = "type")]
        to: Box<Type>,
    },
    BorrowedRef {
        is_mutable: bool,
        #[serde(rename = "type")]
        to: Box<Type>,
    },
    QualifiedPath {
        name: String,
        self_type: Box<Type>,
        #[serde(rename = "trait")]
        of: Option<Path>,
    },
}

#[derive(Debug, Deserialize)]
pub(crate) struct FunctionPointer {
    pub(crate) sig: Signature,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PolyTrait {
    #[serde(rename = "trait")]
    pub(crate) of: Path,
}

/// A type or trait, with its arguments.
#[derive(Debug, Deserialize)]
pub(crate) struct Path {
    pub(crate) id: Id,
    pub(crate) args: Option<Box<Arguments>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Arguments {
    AngleBracketed { args: Vec<Argument>, constraints: Vec<Constraint> },
    Parenthesized { inputs: Vec<Type>, output: Option<Type> },
    ReturnTypeNotation,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Argument {
    Lifetime(IgnoredAny),
    Type(Type),
    Const(Value),
    Infer,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Constraint {
    pub(crate) name: String,
    pub(crate) binding: Binding,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Binding {
    Equality(Term),
    Constraint(Vec<Bound>),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Term {
    Type(Type),
    Constant(Value),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    #[serde(rename = "trait_bound")]
    Trait {
        #[serde(rename = "trait")]
        of: Path,
        modifier: String,
    },
    Outlives(IgnoredAny),
    Use(IgnoredAny),
}

#[derive(Debug, Deserialize)]
pub(crate) struct Generics {
    pub(crate) params: Vec<Parameter>,
    pub(crate) where_predicates: Vec<Predicate>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) kind: ParameterKind,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ParameterKind {
    Lifetime(IgnoredAny),
    Type {
        bounds: Vec<Bound>,
        default: Option<Type>,
        is_synthetic: bool,
    },
    Const {
        #[serde(rename = "type")]
        of: Type,
    },
}

#[derive(Debug, Deserialize)]
pub(crate) enum Predicate {
    #[serde(rename = "bound_predicate")]
    Bound {
        #[serde(rename = "type")]
        of: Type,
        bounds: Vec<Bound>,
    },
    #[serde(rename = "lifetime_predicate")]
    Lifetime(IgnoredAny),
    #[serde(rename = "eq_predicate")]
    Equal { lhs: Type, rhs: Term },
}

impl Document {
    /// Where the item was defined, from its crate's name on. The same for every crate that names it.
    pub(crate) fn definition(&self, id: Id) -> String {
        match self.paths.get(&id) {
            Some(summary) => summary.path.join("::"),
            None => self.index.get(&id).and_then(|item| item.name.clone()).unwrap_or_default(),
        }
    }

    pub(crate) fn definition_of(&self, item: &Item) -> String {
        self.definition(item.id)
    }
}

impl Item {
    pub(crate) fn is_public(&self) -> bool {
        self.visibility == "public"
    }

    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Whether its literals and patterns are closed to other crates.
    pub(crate) fn is_non_exhaustive(&self) -> bool {
        self.attrs.iter().any(|attribute| attribute.to_string().contains("non_exhaustive"))
    }
}
