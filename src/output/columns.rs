//! `-o custom-columns=NAME:.metadata.name,RACK:.spec.location.rack`

use serde_json::Value;

use super::{
    jsonpath::{JsonPathError, Path, bare},
    table::Table,
};

#[derive(Clone, Debug, PartialEq)]
pub struct Columns(Vec<(String, Path)>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColumnsError {
    #[error("`{0}` is not HEADER:PATH, as in RACK:.spec.location.rack")]
    Shape(String),
    #[error(transparent)]
    Path(#[from] JsonPathError),
}

impl Columns {
    pub fn parse(text: &str) -> Result<Columns, ColumnsError> {
        split(text)
            .into_iter()
            .map(|column| {
                let shape = || ColumnsError::Shape(column.clone());
                let (header, path) = column.split_once(':').ok_or_else(shape)?;
                if header.is_empty() || path.is_empty() {
                    return Err(shape());
                }
                Ok((header.to_owned(), Path::parse(path)?))
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Columns)
    }

    pub fn table<'v>(&self, items: impl IntoIterator<Item = &'v Value>) -> Table {
        let mut table = Table::new(self.0.iter().map(|(header, _)| header.clone()));
        for item in items {
            table.row(self.0.iter().map(|(_, path)| {
                let texts: Vec<String> = path.select(item).into_iter().map(bare).collect();
                if texts.is_empty() { "<none>".to_owned() } else { texts.join(",") }
            }));
        }
        table
    }
}

/// At commas outside brackets: `[?(@.a=="x,y")]` stays whole.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0usize);
    for c in text.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_from_paths() {
        let items = [
            json!({"metadata": {"name": "n1"}, "spec": {"macs": ["a", "b"]}}),
            json!({"metadata": {"name": "node-two"}, "spec": {}}),
        ];
        let columns = Columns::parse("NAME:.metadata.name,MACS:{.spec.macs[*]},L:.spec.macs[?(@==\"x,y\")]").unwrap();
        insta::assert_snapshot!(columns.table(&items).render(None), @r"
        NAME       MACS     L
        n1         a,b      <none>
        node-two   <none>   <none>
        ");
    }

    #[test]
    fn faults() {
        assert_eq!(
            Columns::parse("NAME").unwrap_err().to_string(),
            "`NAME` is not HEADER:PATH, as in RACK:.spec.location.rack"
        );
        assert!(Columns::parse("A:.b,,").is_err());
        assert!(Columns::parse("A:.b[").is_err());
    }
}
