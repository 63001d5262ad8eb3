//! Every statement in the text of a document is compiled, and everything that is compiled for it is in a document.
//!
//! `rule.rs` says what a statement is. A new one goes into the file of its document in `compiled/`, with the variables it needs. What is
//! shown as a mistake and does not compile goes into `src/lib.rs`, beside what is right.

mod compiled;
mod document;
mod rule;

use quote::ToTokens;
use syn::{Expr, Item, Pat, Stmt};

use crate::{compiled::COMPILED, document::Document, rule::statement};

/// The statements in a document's text.
fn stated(document: &Document) -> Vec<(String, Stmt)> {
    let statements = document.spans().into_iter().filter_map(|code| statement(&code).map(|parsed| (code, parsed)));
    statements.collect()
}

/// The statements of a file in `compiled/`.
fn compiled(code: &str) -> Vec<Stmt> {
    let items = syn::parse_file(code).expect("it compiles").items;
    let functions =
        items.into_iter().filter_map(|item| if let Item::Fn(item) = item { Some(*item.block) } else { None });
    functions.flat_map(|block| block.stmts).filter_map(shown).collect()
}

/// What a statement in `compiled/` shows: of `let _ = …;` the expression, and nothing of the `Ok(())` that ends a function.
fn shown(statement: Stmt) -> Option<Stmt> {
    match statement {
        Stmt::Local(local) if matches!(local.pat, Pat::Wild(_)) => local.init.map(|init| Stmt::Expr(*init.expr, None)),
        Stmt::Expr(Expr::Call(_), None) => None,
        other => Some(other),
    }
}

/// Each mistake that does not compile, and what compiles beside it: the whole code and the statement of each.
fn mistakes() -> Vec<[(String, String); 2]> {
    let blocks = Document::read("tests/suites/documents/src/lib.rs").blocks();
    let pairs = blocks.chunks(2).map(|pair| {
        let [(no_run, right), (compile_fail, wrong)] = pair else { panic!("nothing stands beside {pair:?}") };
        assert_eq!([no_run.as_str(), compile_fail], ["no_run", "compile_fail"]);
        [wrong, right].map(|code| {
            let line = code.lines().find(|line| !line.starts_with('#')).expect("one line is not hidden");
            (code.clone(), line.to_owned())
        })
    });
    pairs.collect()
}

fn not_compiled() -> Vec<Stmt> {
    mistakes()
        .into_iter()
        .map(|[(_, line), _]| shown(syn::parse_str(&line).expect("one statement")).expect("one"))
        .collect()
}

#[test]
fn each_statement_of_a_document_is_compiled() {
    let mistakes = not_compiled();
    let mut missing = Vec::new();
    for document in Document::all() {
        let of_it = COMPILED.iter().filter(|(path, _)| document.path.starts_with(path));
        let compiled: Vec<_> = of_it.flat_map(|(_, code)| compiled(code)).collect();
        let stated = stated(&document).into_iter();
        let not_there = stated.filter(|(_, statement)| !compiled.contains(statement) && !mistakes.contains(statement));
        missing.extend(not_there.map(|(code, _)| format!("{}: {code}", document.path)));
    }
    assert!(missing.is_empty(), "not in `compiled/`:\n{}", missing.join("\n"));
}

#[test]
fn each_compiled_statement_is_in_its_document() {
    let documents: Vec<_> = Document::all().iter().map(|document| (document.path.clone(), stated(document))).collect();
    for (path, code) in COMPILED {
        let stated = documents.iter().filter(|(of, _)| of.starts_with(path)).flat_map(|(_, stated)| stated);
        let stated: Vec<_> = stated.map(|(_, statement)| statement).collect();
        for statement in compiled(code) {
            assert!(stated.contains(&&statement), "no document in {path} has {}", statement.to_token_stream());
        }
    }
}

#[test]
fn each_mistake_is_documented_and_differs_only_in_its_statement() {
    let documents: Vec<_> = Document::all().iter().flat_map(stated).map(|(_, statement)| statement).collect();
    for statement in not_compiled() {
        assert!(documents.contains(&statement), "no document has {}", statement.to_token_stream());
    }
    for [(wrong, mistake), (right, statement)] in mistakes() {
        assert_eq!(wrong.replace(&mistake, &statement), right);
    }
}
