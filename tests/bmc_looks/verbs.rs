//! Exit codes of mixtures, passwords that are kept, networks that are searched.
