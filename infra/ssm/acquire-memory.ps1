$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$source = @'
#SOURCE#
'@
$folder = Join-Path $env:SystemRoot ('Temp\stasis-' + [Guid]::NewGuid().ToString('N'))
$code = 20
try {
  New-Item -ItemType Directory -Path $folder | Out-Null
  & "$env:SystemRoot\System32\icacls.exe" $folder /inheritance:r /grant:r '*S-1-5-18:(OI)(CI)F' '*S-1-5-32-544:(OI)(CI)F' | Out-Null
  if ($LASTEXITCODE -ne 0) { throw 'the folder for the memory tool could not be closed to others' }
  $tool = Join-Path $folder 'tool.exe'
  [Net.ServicePointManager]::SecurityProtocol = [Net.SecurityProtocolType]::Tls12
  try { Invoke-WebRequest -UseBasicParsing -MaximumRedirection 0 -TimeoutSec 180 -Uri '{{ CollectorUrl }}' -OutFile $tool }
  catch { throw "the memory tool could not be fetched: $($_.Exception.Message)" }
  $found = (Get-FileHash -Algorithm SHA256 -LiteralPath $tool).Hash.ToLowerInvariant()
  if ($found -cne '{{ CollectorSha256 }}') { throw 'what was fetched has another SHA-256 than the memory tool, and was not run' }
  Add-Type -TypeDefinition $source -Language CSharp -ReferencedAssemblies @('System.Core', 'System.Web.Extensions')
  $memory = [long](Get-CimInstance -ClassName Win32_ComputerSystem).TotalPhysicalMemory
  $code = [StasisMemory]::Acquire('{{ ManifestUrl }}', $tool, $found, '{{ ToolArguments }}', '{{ ToolOutput }}', $folder, $memory)
} catch {
  $why = [string]$_.Exception.Message -replace '[\x00-\x1f"\\]', ' '
  '{"event":"failed","error":"' + $why.Substring(0, [Math]::Min(300, $why.Length)) + '"}'
}
# What the tool wrote stays where it was not accepted whole: it may be all that there is.
if (Test-Path -LiteralPath (Join-Path $folder 'image.raw')) {
  Remove-Item -LiteralPath (Join-Path $folder 'tool.exe') -Force -ErrorAction SilentlyContinue
} elseif (Test-Path -LiteralPath $folder) {
  Remove-Item -LiteralPath $folder -Recurse -Force -ErrorAction SilentlyContinue
}
exit $code
