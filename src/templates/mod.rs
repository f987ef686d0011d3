//! Templates for automatic answers.
