//! What every test needs: spans in memory, assertions on whole spans.
