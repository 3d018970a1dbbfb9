import { createHash } from 'node:crypto';
import { chmod, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { extract } from 'tar-stream';
import type { Obtain, Report } from './binaries.ts';
import type { BinaryName, Download } from './binary-catalog.ts';

/** A machine without a network learns it from the first small file; more than this is not worth waiting for. */
const firstAnswerMs = 5000;

/** Fetches published executables and verifies each against the SHA-256 that the project publishes beside it. */
export const downloadBinaries: Obtain = async (component, version, names, folder, { report, signal }) => {
  const wanted = new Map<string, { download: Download; names: BinaryName[] }>();
  for (const name of names) {
    const download = component.download(name, version);
    if (!download) continue;
    const same = wanted.get(download.url) ?? { download, names: [] };
    same.names.push(name);
    wanted.set(download.url, same);
  }
  for (const { download, names: inFile } of wanted.values()) {
    const expected = await checksum(download, signal);
    const content = await fetchBytes(download.url, report, signal);
    const actual = createHash('sha256').update(content).digest('hex');
    if (actual !== expected) throw new Error(`${download.url}: SHA-256 is ${actual}, expected ${expected}`);
    for (const name of inFile) {
      const member = component.download(name, version)?.member;
      const executable = member === undefined ? content : await memberOf(content, member, download.url);
      await writeFile(join(folder, name), executable);
      await chmod(join(folder, name), 0o755);
    }
  }
  return [...wanted.values()].flatMap(file => file.names);
};

async function checksum(download: Download, signal: AbortSignal | undefined): Promise<string> {
  const limits = [AbortSignal.timeout(firstAnswerMs), ...(signal ? [signal] : [])];
  const text = await request(download.checksumUrl, AbortSignal.any(limits)).then(answer => answer.text());
  const found = checksumFor(text, basename(download.url));
  if (!found) throw new Error(`${download.checksumUrl}: no SHA-256 of ${basename(download.url)} in it`);
  return found;
}

/** Reads `sha256sum` output with one line or many, or a bare checksum. */
export function checksumFor(text: string, file: string): string | undefined {
  const lines = text.split('\n').map(line => line.trim().split(/\s+\*?/));
  const line =
    lines.find(([, name]) => name === file || name === `./${file}`) ??
    lines.find(words => words.length === 1);
  return line?.[0] !== undefined && /^[0-9a-f]{64}$/.test(line[0]) ? line[0] : undefined;
}

async function fetchBytes(url: string, report: Report, signal: AbortSignal | undefined): Promise<Buffer> {
  const response = await request(url, signal);
  const total = Number(response.headers.get('content-length') ?? 0);
  const parts: Uint8Array[] = [];
  let received = 0;
  let reported = 0;
  for await (const part of response.body ?? []) {
    parts.push(part);
    received += part.length;
    if (received - reported < 16 << 20 && received !== total) continue;
    reported = received;
    const of = total ? ` of ${mebibytes(total)}` : '';
    report(`downloading ${basename(url)}: ${mebibytes(received)}${of} MiB`);
  }
  return Buffer.concat(parts);
}

async function request(url: string, signal: AbortSignal | undefined): Promise<Response> {
  const response = await fetch(url, signal ? { signal } : {}).catch((error: unknown) => {
    const cause = error instanceof Error ? (error.cause ?? error) : error;
    throw new Error(
      `no download from ${new URL(url).host}: ${cause instanceof Error ? cause.message : String(cause)}`,
    );
  });
  if (!response.ok) throw new Error(`${url}: HTTP ${response.status}`);
  return response;
}

function memberOf(archive: Buffer, member: string, url: string): Promise<Buffer> {
  return new Promise((done, fail) => {
    const reader = extract();
    reader.on('entry', (header, stream, next) => {
      const parts: Uint8Array[] = [];
      stream.on('data', (part: unknown) => {
        if (part instanceof Uint8Array) parts.push(part);
      });
      stream.on('end', () => {
        if (header.name.replace(/^\.\//, '') === member) done(Buffer.concat(parts));
        next();
      });
    });
    reader.on('finish', () => fail(new Error(`${url}: no ${member} in it`)));
    reader.on('error', fail);
    reader.end(gunzipSync(archive));
  });
}

const mebibytes = (bytes: number): string => (bytes / (1 << 20)).toFixed(0);
