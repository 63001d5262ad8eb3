//! One trace across three brokers, and the README's code blocks.
