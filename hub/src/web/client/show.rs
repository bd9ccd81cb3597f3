//! Tables for people. What others wrote reaches the terminal without control characters.

use serde_json::Value;

/// Control characters could write over other lines, or worse.
pub fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// A value as one cell.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => clean(text),
        other => other.to_string(),
    }
}

/// Rows of objects: one JSON value a line, or a table of these columns (field, heading).
pub fn rows(json: bool, values: &Value, columns: &[(&str, &str)]) {
    let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
    if json {
        values.iter().for_each(|value| println!("{value}"));
        return;
    }
    let mut table = vec![columns.iter().map(|(_, heading)| (*heading).to_owned()).collect::<Vec<_>>()];
    table.extend(values.iter().map(|value| columns.iter().map(|(field, _)| text(&value[*field])).collect()));
    print(&table);
}

/// Columns as wide as their widest cell.
pub fn print(table: &[Vec<String>]) {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| table.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    for row in table {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        println!("{}", cells.join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_named_with_escapes_does_not_move_the_cursor() {
        assert_eq!(clean("Duomo\u{1b}[2J\r\n"), "Duomo[2J");
        assert_eq!(text(&serde_json::json!("a\u{7}")), "a");
        assert_eq!(text(&Value::Null), "");
    }
}
