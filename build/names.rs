//! Kafka's names as Rust's.

/// Rust's words that a field may not be named.
const KEYWORDS: &[&str] = &[
    "as", "box", "else", "enum", "fn", "for", "if", "impl", "in", "let", "loop", "match", "mod", "move",
    "mut", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "type", "use", "where",
    "while",
];

/// `TimeoutMs` as `timeout_ms`; `KRaft` counts as one word. A keyword gets an underscore.
pub fn snake(name: &str) -> String {
    let name = name.replace("KRaft", "Kraft");
    let letters: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (index, letter) in letters.iter().enumerate() {
        if letter.is_ascii_uppercase() && index > 0 {
            let after_word = !letters[index - 1].is_ascii_uppercase();
            let before_word = letters.get(index + 1).is_some_and(|next| next.is_ascii_lowercase());
            if after_word || before_word {
                snake.push('_');
            }
        }
        snake.push(letter.to_ascii_lowercase());
    }
    if KEYWORDS.contains(&snake.as_str()) {
        snake.push('_');
    }
    snake
}

/// `TimeoutMs` as `timeoutMs`, as in Kafka's JSON.
pub fn camel(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_lowercase().to_string() + letters.as_str())
}
