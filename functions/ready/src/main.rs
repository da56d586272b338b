//! The function `stasis-ready`. Wiring only.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    stasis_handler::serve_ready().await
}
