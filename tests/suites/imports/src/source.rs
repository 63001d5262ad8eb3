//! One file, read: the paths in it, and the names that its `use` items bind.

use std::{collections::BTreeMap, mem};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The segments of a path.
pub(crate) type Name = Vec<String>;

#[derive(Default)]
pub(crate) struct Source {
    pub path: String,
    pub module: Name,
    pub lines: usize,
    /// The paths, from the root of the crate.
    pub paths: Vec<Name>,
    /// The names that `use` items bind, each in its module, and such a path for each.
    pub uses: BTreeMap<Name, Name>,
}

/// A path from the root of the crate. One of another crate seems to lead into this module.
fn absolute(inside: &[String], path: &[String]) -> Name {
    let supers = path.iter().take_while(|segment| *segment == "super").count();
    match path.first() {
        Some(first) if first == "crate" => path[1..].to_vec(),
        _ => [&inside[..inside.len().saturating_sub(supers)], &path[supers..]].concat(),
    }
}

/// The paths of a `use` item as they are written, without colons.
fn use_paths(tree: TokenStream, prefix: &[String], into: &mut Vec<Name>) {
    let tokens: Vec<_> = tree.into_iter().filter(|token| token.to_string() != ":").collect();
    for part in tokens.split(|token| token.to_string() == ",").filter(|part| !part.is_empty()) {
        let words = part.iter().filter(|token| !matches!(token, TokenTree::Group(_))).map(ToString::to_string);
        let path = [prefix, &words.collect::<Name>()].concat();
        match &part[part.len() - 1] {
            TokenTree::Group(group) => use_paths(group.stream(), &path, into),
            _ => into.push(path),
        }
    }
}

impl Source {
    pub(crate) fn read(path: String, text: &str) -> Self {
        let mut module: Name = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        module.pop_if(|last| last == "lib" || last == "mod");
        let mut source = Self { path, module: module.clone(), lines: text.lines().count(), ..Self::default() };
        source.walk(text.parse().unwrap_or_else(|error| panic!("{}: {error}", source.path)), &module);
        source
    }

    /// Whether the file's `pub use` items are the re-exports of a folder.
    pub(crate) fn is_folder(&self) -> bool {
        self.path.ends_with("lib.rs") || self.path.ends_with("mod.rs")
    }

    fn walk(&mut self, tokens: TokenStream, inside: &[String]) {
        let (mut path, mut colons, mut is_public) = (Name::new(), 0, false);
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            let was_public = mem::take(&mut is_public);
            let word = if let TokenTree::Group(_) = token { String::new() } else { token.to_string() };
            if word == ":" {
                colons += 1;
                continue;
            }
            if mem::take(&mut colons) < 2 || !matches!(token, TokenTree::Ident(_)) {
                self.paths.extend((path.len() > 1).then(|| absolute(inside, &path)));
                path.clear();
            }
            match (token, word.as_str()) {
                (TokenTree::Punct(sign), "#") => {
                    tokens.next_if(|next| matches!(next, TokenTree::Punct(_)));
                    if tokens.next().is_some_and(|attribute| attribute.to_string() == "[cfg (test)]") {
                        self.skip_item(sign.span().start().line, &mut tokens);
                    }
                }
                (_, "pub") => {
                    is_public = true;
                    tokens.next_if(|next| matches!(next, TokenTree::Group(_)));
                }
                (_, "mod") => {
                    let name = tokens.next().map(|name| name.to_string());
                    if let Some(TokenTree::Group(body)) = tokens.next_if(|next| matches!(next, TokenTree::Group(_))) {
                        self.walk(body.stream(), &[inside, &Vec::from_iter(name)].concat());
                    }
                }
                // Else it is of what a future captures, or in a macro.
                (_, "use") if matches!(tokens.peek(), Some(TokenTree::Ident(_))) => {
                    let (tree, mut paths) = (tokens.by_ref().take_while(|token| token.to_string() != ";"), Vec::new());
                    use_paths(tree.collect(), &[], &mut paths);
                    paths.into_iter().for_each(|path| self.bind(path, inside, !(was_public && self.is_folder())));
                }
                (TokenTree::Ident(_), _) => path.push(word),
                (TokenTree::Group(group), _) => self.walk(group.stream(), inside),
                _ => (),
            }
        }
        self.paths.extend((path.len() > 1).then(|| absolute(inside, &path)));
    }

    /// Skips an item under `#[cfg(test)]`, which begins in the line `first`. The lines of a module do not count.
    fn skip_item(&mut self, first: usize, tokens: &mut impl Iterator<Item = TokenTree>) {
        let mut words = Vec::new();
        for token in tokens {
            let is_in = |word: &str| words.iter().any(|seen| seen == word);
            match &token {
                TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => {
                    self.lines -= if is_in("mod") { body.span_close().end().line - first + 1 } else { 0 };
                    return;
                }
                // A comma ends a field or a variant.
                token if token.to_string() == ";" || token.to_string() == "," && !is_in("fn") => return,
                _ => words.push(token.to_string()),
            }
        }
    }

    fn bind(&mut self, mut path: Name, inside: &[String], counts: bool) {
        path.retain(|segment| segment != "self" && segment != "*");
        let alias = path.iter().position(|segment| segment == "as").map(|at| path.split_off(at));
        let bound = alias.unwrap_or_else(|| path.clone()).pop();
        let path = absolute(inside, &path);
        self.paths.extend(counts.then(|| path.clone()));
        self.uses.insert([inside, &Vec::from_iter(bound)].concat(), path);
    }
}
