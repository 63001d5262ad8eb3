/// Both texts as one: lines of both as they are, lines of one alone after `-` or `+`. Of a span that is the same in both, the name
/// alone; the other lines of a span are indented.
pub(crate) fn diff(expected: &str, found: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    // The length of the longest common part of what follows each pair of lines.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for at in (0..old.len()).rev() {
        for to in (0..new.len()).rev() {
            common[at][to] = if old[at] == new[to] {
                common[at + 1][to + 1] + 1
            } else {
                common[at + 1][to].max(common[at][to + 1])
            };
        }
    }
    let (mut at, mut to, mut lines) = (0, 0, Vec::new());
    while at < old.len() || to < new.len() {
        let (mark, line) = if at < old.len() && to < new.len() && old[at] == new[to] {
            (at, to) = (at + 1, to + 1);
            (' ', old[at - 1])
        } else if to == new.len() || at < old.len() && common[at + 1][to] >= common[at][to + 1] {
            at += 1;
            ('-', old[at - 1])
        } else {
            to += 1;
            ('+', new[to - 1])
        };
        lines.push((mark, line));
    }
    let spans = lines.chunk_by(|_, (_, line)| line.starts_with(' '));
    let is_same = |span: &[(char, &str)]| span.iter().all(|(mark, _)| *mark == ' ');
    let shown = spans.flat_map(|span| if is_same(span) { &span[..1] } else { span });
    shown.map(|(mark, line)| format!("{mark} {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::diff;

    #[test]
    fn lines_of_one_side_are_marked() {
        assert_eq!(diff("a\nb\nc", "a\nx\nc"), "  a\n- b\n+ x\n  c\n");
        assert_eq!(diff("a", "a\nb"), "  a\n+ b\n");
        assert_eq!(diff("a\nb", "b"), "- a\n  b\n");
        assert_eq!(diff("", ""), "");
    }

    #[test]
    fn a_span_without_a_difference_is_its_name() {
        assert_eq!(diff("a\n  1\nb\n  1\n  2", "a\n  1\nb\n  1\n  3"), "  a\n  b\n    1\n-   2\n+   3\n");
    }
}
