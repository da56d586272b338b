// Runs the operator's memory tool on a Windows host and streams what it reads to the presigned addresses of a manifest.
// The twin of the collector's sender, for a host on which the collector does not run. Holds no key, loads no driver of its
// own, and sends no header that is not signed.
//
// Windows PowerShell 5.1 compiles it in memory (Add-Type), and its compiler knows C# 5: nothing newer may stand here.
// The document cannot hold two opening braces in a row: Systems Manager would take them for a parameter.

using System;
using System.Collections;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Threading;
using System.Web.Script.Serialization;

public sealed class StasisMemory
{
    const int Schema = 1;
    const int MostManifest = 8 << 20;
    // A part is held in memory while it is sent; above 4 TiB of memory parts would be larger than this.
    const long MostPart = 512L << 20;
    // A quarantine that cuts open connections takes seconds; a throttled bucket may take minutes.
    static readonly TimeSpan Patience = TimeSpan.FromMinutes(5);
    // For so long the tool may give nothing.
    static readonly TimeSpan Silence = TimeSpan.FromMinutes(10);
    // The slowest link on which a part still gets through, in bytes a second.
    const int Slowest = 128 << 10;
    const int MostSaid = 300;

    readonly JavaScriptSerializer json = new JavaScriptSerializer { MaxJsonLength = int.MaxValue };
    readonly List<string> errors = new List<string>();
    readonly List<object> parts = new List<object>();
    readonly Stopwatch clock = Stopwatch.StartNew();
    Dictionary<string, object> manifest;
    Stopwatch read;
    Stopwatch asked;
    int retries;

    // Why nothing more can be done, for the summary and the command's output.
    sealed class Ended : Exception
    {
        public readonly int Status;
        public Ended(string why) : base(why) { }
        public Ended(string why, int status) : base(why) { Status = status; }
    }

    // Takes the memory. `output` is `stream` where the tool writes to its standard output, else `file`, into `folder`.
    // Gives the exit code: 0 where the whole stream and the summary were accepted.
    public static int Acquire(string manifestAddress, string tool, string toolSha256, string arguments, string output, string folder, long memoryBytes)
    {
        try
        {
            ServicePointManager.SecurityProtocol = SecurityProtocolType.Tls12;
            return new StasisMemory().Run(manifestAddress, tool, toolSha256, arguments, output, folder, memoryBytes);
        }
        catch (Exception error)
        {
            Say("failed", error.Message);
            return 2;
        }
    }

    int Run(string manifestAddress, string tool, string toolSha256, string arguments, string output, string folder, long memoryBytes)
    {
        manifest = Manifest(manifestAddress);
        read = Stopwatch.StartNew();
        asked = Stopwatch.StartNew();
        long partBytes = Number(manifest, "partBytes");
        if (partBytes < 1 << 10 || partBytes > MostPart)
            throw new Ended("parts of " + partBytes + " bytes are not sent from a Windows host");
        try { Process.GetCurrentProcess().PriorityClass = ProcessPriorityClass.BelowNormal; }
        catch (Exception error) { errors.Add("priority: " + error.Message); }

        Dictionary<string, object> objects = new Dictionary<string, object>();
        Dictionary<string, object> kernel = Kernel();
        Dictionary<string, object> started = new Dictionary<string, object>();
        started["event"] = "started";
        started["collector"] = "windows";
        started["tool"] = toolSha256;
        started["unixMs"] = UnixMs();
        started["kernel"] = kernel;
        objects["started"] = SendObject("started", started);
        Say("started", null);

        string why = null;
        long bytes = 0;
        byte[] whole = null;
        string image = Path.Combine(folder, "image.raw");
        SHA256CryptoServiceProvider sha256 = new SHA256CryptoServiceProvider();
        try
        {
            bytes = output == "stream"
                ? FromOutput(tool, arguments.Replace("{output}", "-"), sha256, (int)partBytes)
                : FromFile(tool, arguments.Replace("{output}", "\"" + image + "\""), image, memoryBytes, sha256, (int)partBytes);
            if (bytes < memoryBytes)
                why = "the tool gave " + (bytes >> 20) + " MiB, and the host has " + (memoryBytes >> 20);
        }
        catch (Exception error)
        {
            why = error.Message;
            errors.Add(error.Message);
            foreach (Dictionary<string, object> part in parts) bytes += (long)part["bytes"];
        }
        if (why == null)
        {
            sha256.TransformFinalBlock(new byte[0], 0, 0);
            whole = sha256.Hash;
            ((Dictionary<string, object>)parts[parts.Count - 1])["sha256"] = Hex(whole);
            if (output != "stream") File.Delete(image);
        }
        else if (File.Exists(image))
        {
            errors.Add("what the tool wrote stays on the host: " + image);
        }

        Dictionary<string, object> stream = new Dictionary<string, object>();
        stream["format"] = "raw";
        stream["bytes"] = bytes;
        stream["sha256"] = whole == null ? "" : Hex(whole);
        stream["partBytes"] = partBytes;
        stream["parts"] = parts;
        stream["retries"] = retries;
        stream["complete"] = why == null;
        Dictionary<string, object> summary = new Dictionary<string, object>();
        summary["schema"] = Schema;
        summary["collector"] = "windows, tool " + toolSha256;
        summary["beganUnixMs"] = UnixMs() - clock.ElapsedMilliseconds;
        summary["milliseconds"] = clock.ElapsedMilliseconds;
        summary["kernel"] = kernel;
        summary["taken"] = bytes == 0 ? "nothing" : "memory";
        summary["reason"] = why;
        summary["memoryBytes"] = memoryBytes;
        summary["ranges"] = new object[0];
        summary["gapBytes"] = 0;
        summary["gaps"] = new object[0];
        summary["stream"] = stream;
        summary["processes"] = 0;
        summary["objects"] = objects;
        summary["errors"] = errors;
        summary["peakKib"] = Process.GetCurrentProcess().PeakWorkingSet64 >> 10;
        Dictionary<string, object> sent = SendObject("summary", summary);
        if (sent["error"] != null) throw new Ended("the summary was not accepted: " + sent["error"]);
        if (why != null)
        {
            Say("failed", why);
            return 3;
        }
        Say("finished", null);
        return 0;
    }

    // ---------------------------------------------------------------- the tool

    long FromOutput(string tool, string arguments, SHA256CryptoServiceProvider sha256, int partBytes)
    {
        using (Process process = Start(tool, arguments))
        {
            StringBuilder said = Drain(process.StandardError);
            try
            {
                long bytes = Send(process.StandardOutput.BaseStream, sha256, partBytes);
                End(process, said);
                if (bytes == 0) throw new Ended("the tool gave nothing: " + Tail(said));
                return bytes;
            }
            catch
            {
                // It would wait for ever for somebody to read.
                if (!process.HasExited) process.Kill();
                throw;
            }
        }
    }

    long FromFile(string tool, string arguments, string image, long memoryBytes, SHA256CryptoServiceProvider sha256, int partBytes)
    {
        long free = new DriveInfo(Path.GetPathRoot(Path.GetFullPath(image))).AvailableFreeSpace;
        if (free < memoryBytes + (4L << 30) && free < memoryBytes + memoryBytes / 2)
            throw new Ended("the image does not fit on the drive: " + (free >> 20) + " MiB are free, and the memory has " + (memoryBytes >> 20));
        using (Process process = Start(tool, arguments))
        {
            StringBuilder said = Drain(process.StandardError);
            Drain(process.StandardOutput);
            process.WaitForExit();
            End(process, said);
            if (!File.Exists(image)) throw new Ended("the tool wrote no image: " + Tail(said));
        }
        using (FileStream file = new FileStream(image, FileMode.Open, FileAccess.Read, FileShare.ReadWrite))
            return Send(file, sha256, partBytes);
    }

    static Process Start(string tool, string arguments)
    {
        ProcessStartInfo start = new ProcessStartInfo(tool, arguments);
        start.UseShellExecute = false;
        start.CreateNoWindow = true;
        start.RedirectStandardOutput = true;
        start.RedirectStandardError = true;
        return Process.Start(start);
    }

    // winpmem ends with 1 where all went well, others with 0: the code is told, and what arrived decides.
    void End(Process process, StringBuilder said)
    {
        if (!process.WaitForExit((int)Silence.TotalMilliseconds)) throw new Ended("the tool did not end after its image");
        if (process.ExitCode != 0) errors.Add("the tool ended with " + process.ExitCode + ": " + Tail(said));
    }

    // Reads what would fill a pipe that nobody reads, and keeps the end of it.
    static StringBuilder Drain(StreamReader from)
    {
        StringBuilder kept = new StringBuilder();
        Thread thread = new Thread(delegate()
        {
            char[] some = new char[4096];
            try
            {
                for (int count; (count = from.Read(some, 0, some.Length)) > 0;)
                    lock (kept)
                    {
                        kept.Append(some, 0, count);
                        if (kept.Length > 8192) kept.Remove(0, kept.Length - 4096);
                    }
            }
            catch (IOException) { }
            catch (ObjectDisposedException) { }
        });
        thread.IsBackground = true;
        thread.Start();
        return kept;
    }

    static string Tail(StringBuilder said)
    {
        lock (said) return Printable(said.ToString(Math.Max(0, said.Length - MostSaid), Math.Min(MostSaid, said.Length)));
    }

    // ---------------------------------------------------------------- the stream

    long Send(Stream from, SHA256CryptoServiceProvider sha256, int partBytes)
    {
        byte[] part = new byte[partBytes];
        ulong crc = ulong.MaxValue;
        long total = 0;
        long pace = manifest.ContainsKey("bytesPerSecond") && manifest["bytesPerSecond"] != null ? Number(manifest, "bytesPerSecond") : 0;
        Stopwatch since = Stopwatch.StartNew();
        for (int number = 1; ; number++)
        {
            int filled = Fill(from, part);
            if (filled == 0) return total;
            sha256.TransformBlock(part, 0, filled, null, 0);
            crc = Crc64(crc, part, filled);
            SendPart(number, part, filled);
            Dictionary<string, object> record = new Dictionary<string, object>();
            record["bytes"] = (long)filled;
            // The state of a hash cannot be copied here: only the last part gets one, for all of it.
            record["sha256"] = "";
            record["crc64nvme"] = Base64(~crc);
            parts.Add(record);
            total += filled;
            if (pace > 0)
            {
                long early = (long)(total * 1000.0 / pace) - since.ElapsedMilliseconds;
                if (early > 0) Thread.Sleep((int)Math.Min(early, 60000));
            }
            if (filled < part.Length) return total;
        }
    }

    static int Fill(Stream from, byte[] part)
    {
        int filled = 0;
        while (filled < part.Length)
        {
            IAsyncResult reading = from.BeginRead(part, filled, part.Length - filled, null, null);
            if (!reading.AsyncWaitHandle.WaitOne(Silence))
                throw new Ended("the tool gave nothing for " + Silence.TotalMinutes + " minutes");
            int count = from.EndRead(reading);
            if (count == 0) break;
            filled += count;
        }
        return filled;
    }

    void SendPart(int number, byte[] part, int count)
    {
        Stopwatch begun = Stopwatch.StartNew();
        bool refused = false;
        for (int tries = 1; ; tries++)
        {
            string address = PartAddress(number, refused);
            if (address == null) throw new Ended("there is no address for part " + number);
            Ended refusal = Put(address, part, count, false);
            if (refusal == null) return;
            // An address whose time is over is refused with 403: the next manifest may have a good one.
            bool renewable = refusal.Status == 403 && !refused;
            if (!renewable && (IsFinal(refusal.Status) || begun.Elapsed > Patience))
                throw new Ended("part " + number + " was not accepted: " + refusal.Message);
            refused = refusal.Status == 403;
            retries++;
            Thread.Sleep(Pause(tries));
        }
    }

    // The address of a part. Looks for the next manifest when three quarters of this one's time are over.
    string PartAddress(int number, bool refused)
    {
        bool old = read.Elapsed.TotalSeconds > Number(manifest, "validSeconds") * 0.75;
        string address = PartAddress(number);
        if ((old || refused || address == null) && (refused || asked.Elapsed.TotalSeconds > 30) && manifest.ContainsKey("next") && manifest["next"] != null)
        {
            asked = Stopwatch.StartNew();
            try
            {
                Dictionary<string, object> next = Manifest((string)manifest["next"]);
                if (Number(next, "number") > Number(manifest, "number") && Number(next, "partBytes") == Number(manifest, "partBytes"))
                {
                    manifest = next;
                    read = Stopwatch.StartNew();
                }
            }
            catch (Ended) { }
            address = PartAddress(number);
        }
        return address;
    }

    string PartAddress(int number)
    {
        Dictionary<string, object> all = (Dictionary<string, object>)manifest["parts"];
        IList signatures = (IList)all["signatures"];
        long index = number - Number(all, "first");
        if (index < 0 || index >= signatures.Count) return null;
        string address = ((string)all["template"]).Replace("{part}", number.ToString(CultureInfo.InvariantCulture));
        return address.Replace("{signature}", (string)signatures[(int)index]);
    }

    // ---------------------------------------------------------------- the network

    Dictionary<string, object> Manifest(string address)
    {
        Stopwatch begun = Stopwatch.StartNew();
        for (int tries = 1; ; tries++)
        {
            Ended refusal;
            try
            {
                using (HttpWebResponse answer = (HttpWebResponse)Request(address, "GET", 60000).GetResponse())
                using (Stream body = answer.GetResponseStream())
                {
                    MemoryStream text = new MemoryStream();
                    byte[] some = new byte[64 << 10];
                    for (int count; (count = body.Read(some, 0, some.Length)) > 0;)
                    {
                        text.Write(some, 0, count);
                        if (text.Length > MostManifest) throw new Ended("the manifest is too large");
                    }
                    Dictionary<string, object> found = json.Deserialize<Dictionary<string, object>>(Encoding.UTF8.GetString(text.ToArray()));
                    if (Number(found, "schema") != Schema) throw new Ended("the manifest has layout " + found["schema"] + ", this knows " + Schema);
                    if ((string)found["format"] != "raw") throw new Ended("the manifest asks for a format that a Windows host does not give");
                    return found;
                }
            }
            catch (WebException error)
            {
                refusal = Refusal(error);
            }
            if (IsFinal(refusal.Status) || begun.Elapsed.TotalSeconds > 60)
                throw new Ended("the manifest could not be fetched: " + refusal.Message);
            Thread.Sleep(Pause(tries));
        }
    }

    Dictionary<string, object> SendObject(string name, object value)
    {
        byte[] body = Encoding.UTF8.GetBytes(json.Serialize(value));
        string failed = null;
        object address;
        if (!((Dictionary<string, object>)manifest["objects"]).TryGetValue(name, out address))
            failed = "there is no address for it";
        Stopwatch begun = Stopwatch.StartNew();
        for (int tries = 1; failed == null; tries++)
        {
            Ended refusal = Put((string)address, body, body.Length, true);
            // There already: a try whose answer was lost sent it. The address is good for one creation only.
            if (refusal == null || refusal.Status == 412 && tries > 1) break;
            if (IsFinal(refusal.Status) || begun.Elapsed > Patience) failed = refusal.Message;
            else Thread.Sleep(Pause(tries));
        }
        if (failed != null) errors.Add(name + ": " + failed);
        Dictionary<string, object> sent = new Dictionary<string, object>();
        sent["bytes"] = body.Length;
        using (SHA256CryptoServiceProvider sha256 = new SHA256CryptoServiceProvider()) sent["sha256"] = Hex(sha256.ComputeHash(body));
        sent["error"] = failed;
        return sent;
    }

    // Sends a body once; null where it was accepted.
    Ended Put(string address, byte[] body, int count, bool create)
    {
        try
        {
            HttpWebRequest request = Request(address, "PUT", 60000 + (int)Math.Min((long)count * 1000 / Slowest, int.MaxValue / 2));
            request.ContentLength = count;
            request.AllowWriteStreamBuffering = false;
            // S3 compares it, and a bucket with Object Lock demands it. Where the host's rules forbid MD5 it is left out.
            try
            {
                using (MD5CryptoServiceProvider md5 = new MD5CryptoServiceProvider())
                    request.Headers.Add("Content-MD5", Convert.ToBase64String(md5.ComputeHash(body, 0, count)));
            }
            catch (InvalidOperationException) { }
            // Part of the signature of an object's address: the condition under which it is good.
            if (create) request.Headers.Add("If-None-Match", "*");
            using (Stream to = request.GetRequestStream()) to.Write(body, 0, count);
            using (request.GetResponse()) return null;
        }
        catch (WebException error) { return Refusal(error); }
        catch (IOException error) { return new Ended(error.Message); }
    }

    static HttpWebRequest Request(string address, string method, int milliseconds)
    {
        if (!address.StartsWith("https://", StringComparison.Ordinal) && !address.StartsWith("http://127.0.0.1:", StringComparison.Ordinal))
            throw new Ended("an address is not https");
        HttpWebRequest request = (HttpWebRequest)WebRequest.Create(address);
        request.Method = method;
        request.Timeout = milliseconds;
        request.ReadWriteTimeout = milliseconds;
        request.AllowAutoRedirect = false;
        request.Proxy = null;
        request.ServicePoint.Expect100Continue = false;
        return request;
    }

    static Ended Refusal(WebException error)
    {
        HttpWebResponse answer = error.Response as HttpWebResponse;
        // Not who it must be: nothing is sent there, now or later.
        if (error.Status == WebExceptionStatus.TrustFailure || error.Status == WebExceptionStatus.SecureChannelFailure)
            return new Ended(error.Message, 495);
        if (answer == null) return new Ended(error.Message);
        using (answer)
        using (StreamReader body = new StreamReader(answer.GetResponseStream()))
        {
            char[] some = new char[MostSaid];
            int count = body.ReadBlock(some, 0, some.Length);
            return new Ended("status " + (int)answer.StatusCode + ": " + Printable(new string(some, 0, count)), (int)answer.StatusCode);
        }
    }

    // Whether trying again cannot help.
    static bool IsFinal(int status)
    {
        return status >= 300 && status < 500 && status != 408 && status != 429;
    }

    static int Pause(int tries)
    {
        return Math.Min(15000, 200 << Math.Min(tries, 10));
    }

    // ---------------------------------------------------------------- small things

    static Dictionary<string, object> Kernel()
    {
        Dictionary<string, object> kernel = new Dictionary<string, object>();
        kernel["release"] = Environment.OSVersion.Version.ToString();
        kernel["machine"] = Environment.GetEnvironmentVariable("PROCESSOR_ARCHITECTURE") ?? "";
        kernel["lockdown"] = null;
        kernel["fiveLevelPaging"] = false;
        kernel["hasBtf"] = false;
        kernel["textAddress"] = null;
        kernel["tainted"] = null;
        return kernel;
    }

    static void Say(string what, string error)
    {
        Dictionary<string, object> line = new Dictionary<string, object>();
        line["event"] = what;
        if (error != null) line["error"] = Printable(error);
        Console.Out.WriteLine(new JavaScriptSerializer().Serialize(line));
        Console.Out.Flush();
    }

    static string Printable(string text)
    {
        StringBuilder kept = new StringBuilder();
        foreach (char c in text)
            if (!char.IsControl(c) && kept.Length < MostSaid) kept.Append(c);
        return kept.ToString();
    }

    static long Number(Dictionary<string, object> from, string name)
    {
        object value;
        if (!from.TryGetValue(name, out value) || value == null) throw new Ended("the manifest has no " + name);
        return Convert.ToInt64(value, CultureInfo.InvariantCulture);
    }

    static long UnixMs()
    {
        return (long)(DateTime.UtcNow - new DateTime(1970, 1, 1, 0, 0, 0, DateTimeKind.Utc)).TotalMilliseconds;
    }

    static string Hex(byte[] bytes)
    {
        return BitConverter.ToString(bytes).Replace("-", "").ToLowerInvariant();
    }

    static string Base64(ulong value)
    {
        byte[] bytes = BitConverter.GetBytes(value);
        Array.Reverse(bytes);
        return Convert.ToBase64String(bytes);
    }

    // CRC-64/NVME as S3 takes it, eight bytes at a time.
    static readonly ulong[][] Tables = MakeTables();

    static ulong[][] MakeTables()
    {
        ulong[][] tables = new ulong[8][];
        for (int k = 0; k < 8; k++) tables[k] = new ulong[256];
        for (int n = 0; n < 256; n++)
        {
            ulong value = (ulong)n;
            for (int bit = 0; bit < 8; bit++) value = (value & 1) != 0 ? value >> 1 ^ 0x9A6C9329AC4BC9B5UL : value >> 1;
            tables[0][n] = value;
        }
        for (int k = 1; k < 8; k++)
            for (int n = 0; n < 256; n++)
                tables[k][n] = tables[k - 1][n] >> 8 ^ tables[0][tables[k - 1][n] & 0xFF];
        return tables;
    }

    static ulong Crc64(ulong crc, byte[] data, int count)
    {
        ulong[] t0 = Tables[0], t1 = Tables[1], t2 = Tables[2], t3 = Tables[3], t4 = Tables[4], t5 = Tables[5], t6 = Tables[6], t7 = Tables[7];
        int at = 0;
        for (; at + 8 <= count; at += 8)
        {
            crc ^= BitConverter.ToUInt64(data, at);
            crc = t7[crc & 0xFF] ^ t6[crc >> 8 & 0xFF] ^ t5[crc >> 16 & 0xFF] ^ t4[crc >> 24 & 0xFF]
                ^ t3[crc >> 32 & 0xFF] ^ t2[crc >> 40 & 0xFF] ^ t1[crc >> 48 & 0xFF] ^ t0[crc >> 56];
        }
        for (; at < count; at++) crc = crc >> 8 ^ t0[(crc ^ data[at]) & 0xFF];
        return crc;
    }
}
