//! What is a statement: inline code without `…` that parses as one Rust statement, and is an item, a `let`, an assignment
//! (`a = b`; `a=b` is a setting), a macro with arguments, a method call on a value, a call of a function with arguments (not of a
//! name in upper case, which makes a value: `Ok(true)`), or ends with `.await` or `?`.
//!
//! So paths, types, literals, and methods without their receiver are names, and code with `…` in it is a mention of longer code.

use syn::{Block, Expr, ExprMacro, Path, Stmt, parse::Parser};

/// The one statement that this code is, if it is one.
pub(crate) fn statement(code: &str) -> Option<Stmt> {
    if code.contains('…') {
        return None;
    }
    let parse = |code: &str| Block::parse_within.parse_str(code).ok();
    // A `let` is none without its semicolon.
    let [statement] = <[Stmt; 1]>::try_from(parse(code).or_else(|| parse(&format!("{code};")))?).ok()?;
    let statement = match statement {
        Stmt::Macro(of) => Stmt::Expr(Expr::Macro(ExprMacro { attrs: of.attrs, mac: of.mac }), None),
        Stmt::Expr(expression, _) => Stmt::Expr(expression, None),
        other => other,
    };
    let acts = if let Stmt::Expr(expression, _) = &statement { acts(expression, code) } else { true };
    acts.then_some(statement)
}

fn acts(expression: &Expr, code: &str) -> bool {
    match expression {
        // Without spaces it is a setting of a client's.
        Expr::Assign(_) => code.contains(" = "),
        Expr::Await(_) | Expr::Try(_) => true,
        Expr::Macro(expression) => !expression.mac.tokens.is_empty(),
        Expr::MethodCall(call) => !matches!(&*call.receiver, Expr::Path(receiver) if makes_a_value(&receiver.path)),
        Expr::Call(call) => {
            !call.args.is_empty() && !matches!(&*call.func, Expr::Path(function) if makes_a_value(&function.path))
        }
        _ => false,
    }
}

fn makes_a_value(path: &Path) -> bool {
    path.segments.last().is_some_and(|name| name.ident.to_string().starts_with(char::is_uppercase))
}

#[test]
fn what_acts_is_a_statement_and_a_name_is_none() {
    let statements = [
        "let a = b",
        "use a::b;",
        "a = b",
        "a.b = c",
        "a!(b)",
        "a.b()",
        "a::b().c()",
        "a(b)",
        "A::b(c)",
        "a.await",
        "a(b).await?",
    ];
    for code in statements {
        assert!(statement(code).is_some(), "{code}");
    }
    let names = [
        "a", "a::B", "a()", "A::b()", "Ok(true)", "a::B(c)", "A.b()", "1.5", "\"a\"", "a!", "a!()", "a.b(…)", "a b",
        "a-b", "a=b", "A<b>", "()",
    ];
    for code in names {
        assert!(statement(code).is_none(), "{code}");
    }
}
