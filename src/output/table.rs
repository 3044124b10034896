//! Tables as kubectl prints them: upper-case headers, no lines, columns three blanks apart.

use comfy_table::{ContentArrangement, presets::NOTHING};

use super::clean;

/// The last column is cut so that a row fits the terminal, but never below this many characters.
const LAST_COLUMN_MIN: usize = 12;
const GAP: u16 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    headers: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<S: Into<String>>(headers: impl IntoIterator<Item = S>) -> Self {
        Table { headers: headers.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Foreign text is cleaned here. An empty cell prints as `-`, so that columns can be counted by scripts.
    pub fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let cells = cells.into_iter().map(|cell| match cell.as_ref() {
            "" => "-".to_owned(),
            text => clean::line(text).into_owned(),
        });
        self.rows.push(cells.collect());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// `width`: columns of the terminal; `None` where there is none: then nothing is cut.
    pub fn render(&self, width: Option<u16>) -> String {
        let ascii = |row: &Vec<String>| row.iter().all(|cell| cell.is_ascii());
        if width.is_none() && ascii(&self.headers) && self.rows.iter().all(ascii) {
            return self.plain();
        }
        let mut rows = self.rows.clone();
        if let (Some(width), Some(last)) = (width, self.headers.len().checked_sub(1)) {
            let before: usize =
                self.comfy(&rows).column_max_content_widths()[..last].iter().map(|w| usize::from(w + GAP)).sum();
            let room = usize::from(width).saturating_sub(before).max(LAST_COLUMN_MIN);
            for cell in rows.iter_mut().filter_map(|row| row.get_mut(last)) {
                cut(cell, room);
            }
        }
        let mut out = String::new();
        for line in self.comfy(&rows).lines() {
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// The same without cutting, where a character is a byte and a column: ten thousand rows in no time.
    fn plain(&self) -> String {
        let rows = || std::iter::once(&self.headers).chain(&self.rows);
        let mut widths = vec![0; self.headers.len()];
        for (width, cell) in rows().flat_map(|row| row.iter().enumerate()) {
            if let Some(most) = widths.get_mut(width) {
                *most = cell.len().max(*most);
            }
        }
        let line: usize = widths.iter().map(|w| w + usize::from(GAP)).sum();
        let mut out = String::with_capacity((line + 1) * (self.rows.len() + 1));
        for row in rows() {
            for (cell, width) in row.iter().zip(&widths) {
                out.push_str(cell);
                out.extend(std::iter::repeat_n(' ', width + usize::from(GAP) - cell.len()));
            }
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
        }
        out
    }

    fn comfy(&self, rows: &[Vec<String>]) -> comfy_table::Table {
        let mut table = comfy_table::Table::new();
        table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(&self.headers);
        table.add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        table
    }
}

fn cut(cell: &mut String, room: usize) {
    if cell.chars().count() > room {
        *cell = cell.chars().take(room.saturating_sub(1)).chain(['…']).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["NAME", "POWER", "REASON"]);
        table.row(["n1", "on", ""]);
        table.row(["node-zürich", "off", "waits for n1: two of three members are down\u{1b}[2J"]);
        table
    }

    #[test]
    fn whole_without_a_terminal() {
        insta::assert_snapshot!(table().render(None), @r"
        NAME          POWER   REASON
        n1            on      -
        node-zürich   off     waits for n1: two of three members are down^[[2J
        ");
    }

    #[test]
    fn both_ways_print_the_same() {
        let mut table = Table::new(["NAME", "POWER", "REASON"]);
        table.row(["n1", "", "a b  "]);
        table.row(["a-longer-name", "off", ""]);
        let comfy: String = table.comfy(&table.rows).lines().map(|l| format!("{}\n", l.trim_end())).collect();
        assert_eq!(table.render(None), comfy);
    }

    #[test]
    fn fits_a_terminal() {
        insta::assert_snapshot!(table().render(Some(40)), @r"
        NAME          POWER   REASON
        n1            on      -
        node-zürich   off     waits for n1: two…
        ");
        assert!(table().render(Some(3)).contains("waits for n…"));
    }

    #[test]
    fn headers_alone() {
        assert_eq!(Table::new(["A", "B"]).render(Some(80)), "A   B\n");
    }
}
