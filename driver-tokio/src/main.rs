//! x
fn main() {
    driver_core::cli::try_it(std::env::args_os().collect())
}
