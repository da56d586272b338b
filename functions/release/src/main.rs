//! The function `stasis-release`. Wiring only.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    stasis_handler::serve_release().await
}
