//! What a handler may give, and how its error is called.

use std::{borrow::Cow, fmt, io, ops::ControlFlow};

use futures::stream;
use otel_messaging::{Outcome, process_batch_with};

use crate::queue::*;

/// `error.type` and description of the process span that this makes.
fn recorded(handle: impl FnOnce(&Message)) -> Option<(String, Status)> {
    let (sdk, mut queue) = observed();
    let message = queue.push_and_pop("1");
    handle(&message);
    let span = sdk.only("process orders");
    Some((value_of(&span, "error.type")?.to_string(), span.status))
}

fn fails(error_type: &str, description: &'static str) -> Option<(String, Status)> {
    Some((error_type.to_owned(), Status::error(description)))
}

#[test]
fn an_option_a_bool_and_a_control_flow_are_no_failures() {
    fn unfailing<T: Outcome + Clone>(output: T) {
        assert_eq!(recorded(|message| _ = message.in_scope(|| output.clone())), None);
        assert_eq!(recorded(|message| _ = block_on(message.process(|| async { output.clone() }))), None);
    }
    unfailing(());
    unfailing(None::<u8>);
    unfailing(Some(1));
    unfailing(false);
    unfailing(true);
    unfailing(ControlFlow::<&str, u8>::Break("stop"));
    unfailing(ControlFlow::<&str, u8>::Continue(1));
    unfailing(Ok::<_, &str>(1));
}

/// As a client gives back what it could not send: `Debug` shows the payload.
#[derive(Debug)]
struct Unsent(#[expect(dead_code, reason = "Debug reads it")] &'static str);

fn unsent<T>(output: &Result<T, (io::Error, Unsent)>) -> Option<(Cow<'static, str>, String)> {
    output.as_ref().err().map(|(error, _)| ("queue_full".into(), error.to_string()))
}

fn send() -> Result<(), (io::Error, Unsent)> {
    Err((io::Error::other("full"), Unsent("card 4711")))
}

#[test]
fn an_error_is_found_by_a_function_in_any_output() {
    let expected = fails("queue_full", "full");
    assert_eq!(recorded(|message| _ = block_on(message.process_with(|| async { send() }, unsent))), expected);
    assert_eq!(recorded(|message| _ = message.in_scope_with(send, unsent)), expected);
    let batch = |message: &Message| {
        _ = block_on(process_batch_with(std::slice::from_ref(message), || async { send() }, unsent));
    };
    assert_eq!(recorded(batch), expected);
    let each = |message: &Message| {
        block_on(stream::iter([message.clone()]).process_each_with(1, async |_| send(), unsent));
    };
    assert_eq!(recorded(each), expected);
    let went_well = |message: &Message| {
        assert!(message.in_scope_with(|| Ok(()), unsent).is_ok());
    };
    assert_eq!(recorded(went_well), None);
}

#[test]
fn a_function_that_panics_finds_no_error_and_the_output_comes_back() {
    let bug = |_: &bool| -> Option<(Cow<'static, str>, &str)> { panic!("a bug of the function's") };
    assert_eq!(recorded(|message| assert!(message.in_scope_with(|| true, bug))), None);
    assert_eq!(recorded(|message| assert!(block_on(message.process_with(|| async { true }, bug)))), None);
}

#[derive(Debug)]
struct Declined;

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("declined")
    }
}

impl std::error::Error for Declined {}

#[test]
fn an_error_of_many_kinds_is_called_by_what_is_in_it() {
    fn named(output: &anyhow::Result<()>) -> Option<(Cow<'static, str>, String)> {
        let error = output.as_ref().err()?;
        let error_type = match error.downcast_ref::<Declined>() {
            Some(_) => "declined",
            None => "other",
        };
        Some((error_type.into(), error.to_string()))
    }
    let declined = || Err(Declined.into());
    let not_found = || Err(io::Error::from(io::ErrorKind::NotFound).into());
    assert_eq!(recorded(|message| _ = message.in_scope_with(declined, named)), fails("declined", "declined"));
    assert_eq!(recorded(|message| _ = message.in_scope_with(not_found, named)), fails("other", "entity not found"));
    assert_eq!(recorded(|message| _ = message.in_scope(declined)), fails("anyhow::Error", "declined"), "by its type");
}

#[test]
fn no_debug_text_of_an_error_is_recorded() {
    let (sdk, mut queue) = observed();
    let message = queue.push_and_pop("1");
    let heard = support::heard(|| _ = message.in_scope_with(send, unsent));
    drop(message);
    let recorded = format!("{:?}{}{}{heard}", sdk.spans(), sdk.events(), sdk.measured());
    assert!(recorded.contains("queue_full") && !recorded.contains("card 4711"), "{recorded}");
}
