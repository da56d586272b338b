//! The function `stasis-approval`: asks people before an instance is contained. Wiring only.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    stasis_handler::serve_approval().await
}
