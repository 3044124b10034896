//! Level 5: a file a verb. Strings become goals here, and outcomes become exit codes.

pub mod args;
pub mod complete;
pub mod context;

pub mod globals {
    pub fn for_completion(_: &[String]) -> Option<crate::model::Fleet> {
        None
    }
}
