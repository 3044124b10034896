use super::{
    check::Object,
    effective::{Effective, Index},
    fault::Report,
};
pub(crate) fn check(_: &[Object], _: &Index<'_>, _: &[Effective<'_>], _: &mut Report, _: &mut Report) {}
