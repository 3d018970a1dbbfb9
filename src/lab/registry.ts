import { createReadStream } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import * as z from 'zod';

/**
 * A read-only registry (OCI distribution specification 1.1, pull) over a folder of OCI archives, for the nodes of a
 * lab. They have the images already, but a pod whose image has the tag `latest` asks the registry each time, and
 * without one it would fail where on any other cluster it runs. Any registry's name is answered from the folder;
 * containerd says which it wanted in the query's `ns`.
 */
export function serveImages(folder: string): Server {
  const catalog = new Catalog(folder);
  return createServer((request, response) => {
    answer(catalog, request, response).catch((error: unknown) => {
      if (response.headersSent) response.destroy();
      else refuse(response, 500, 'UNKNOWN', error instanceof Error ? error.message : String(error));
    });
  });
}

async function answer(catalog: Catalog, request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return refuse(response, 405, 'UNSUPPORTED', 'this registry only serves');
  }
  const url = new URL(request.url ?? '/', 'http://registry');
  if (/^\/v2\/?$/.test(url.pathname)) return void response.writeHead(200).end('{}');
  const path = /^\/v2\/(?<repository>.+)\/(?<kind>manifests|blobs)\/(?<reference>[^/]+)$/.exec(url.pathname);
  if (!path?.groups) return refuse(response, 404, 'NAME_UNKNOWN', `no such path: ${url.pathname}`);
  const { repository = '', kind, reference = '' } = path.groups;
  const images = await catalog.read();
  const host = url.searchParams.get('ns') ?? 'docker.io';
  const digest = reference.includes(':') ? reference : images.names.get(`${host}/${repository}:${reference}`);
  const blob = digest === undefined ? undefined : images.blobs.get(digest);
  if (digest === undefined || blob === undefined) {
    const code = kind === 'manifests' ? 'MANIFEST_UNKNOWN' : 'BLOB_UNKNOWN';
    return refuse(response, 404, code, `the lab has no ${host}/${repository}:${reference}`);
  }
  response.writeHead(200, {
    'content-type': kind === 'manifests' ? await manifestType(blob) : 'application/octet-stream',
    'content-length': blob.size,
    'docker-content-digest': digest,
  });
  if (request.method === 'HEAD' || blob.size === 0) return void response.end();
  const bytes = createReadStream(blob.archive, { start: blob.offset, end: blob.offset + blob.size - 1 });
  await pipeline(bytes, response);
}

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ errors: [{ code, message }] }));
}

/** A manifest or an index of several says itself which it is, or is of the one kind that need not. */
async function manifestType(blob: Blob): Promise<string> {
  const { mediaType } = z
    .object({ mediaType: z.string().optional() })
    .parse(JSON.parse(await readText(blob)));
  return mediaType ?? 'application/vnd.oci.image.manifest.v1+json';
}

interface Blob {
  readonly archive: string;
  readonly offset: number;
  readonly size: number;
}

interface Images {
  /** Full name with tag → digest of the manifest. */
  readonly names: ReadonlyMap<string, string>;
  readonly blobs: ReadonlyMap<string, Blob>;
}

/** What is in the folder, read again when an archive is added, replaced or removed. */
class Catalog {
  readonly #folder: string;
  #seen = '';
  #images: Images = { names: new Map(), blobs: new Map() };

  constructor(folder: string) {
    this.#folder = folder;
  }

  async read(): Promise<Images> {
    const archives = (await readdir(this.#folder)).filter(name => name.endsWith('.tar')).sort();
    const paths = archives.map(name => join(this.#folder, name));
    const states = await Promise.all(paths.map(async path => ({ path, ...(await identity(path)) })));
    const seen = JSON.stringify(states);
    if (seen !== this.#seen) {
      this.#images = await readArchives(paths);
      this.#seen = seen;
    }
    return this.#images;
  }
}

async function identity(path: string): Promise<{ size: number; mtimeMs: number; ino: number }> {
  const { size, mtimeMs, ino } = await stat(path);
  return { size, mtimeMs, ino };
}

const indexSchema = z.object({
  manifests: z.array(
    z.object({ digest: z.string(), annotations: z.record(z.string(), z.string()).optional() }),
  ),
});

async function readArchives(paths: readonly string[]): Promise<Images> {
  const names = new Map<string, string>();
  const blobs = new Map<string, Blob>();
  for (const archive of paths) {
    const members = await listTar(archive);
    for (const [name, place] of members) {
      const digest = /^blobs\/sha256\/([0-9a-f]{64})$/.exec(name)?.[1];
      if (digest !== undefined) blobs.set(`sha256:${digest}`, { archive, ...place });
    }
    const index = members.get('index.json');
    // An archive in Docker's older layout has none: its images are on the nodes, but cannot be asked for.
    if (!index) continue;
    const { manifests } = indexSchema.parse(JSON.parse(await readText({ archive, ...index })));
    for (const { digest, annotations } of manifests) {
      const name = annotations?.['io.containerd.image.name'];
      if (name !== undefined) names.set(name, digest);
    }
  }
  return { names, blobs };
}

const blockSize = 512;

/** Where each regular file of a tar lies. Long names are not decoded: no blob of an image layout has one. */
async function listTar(path: string): Promise<Map<string, { offset: number; size: number }>> {
  const found = new Map<string, { offset: number; size: number }>();
  await using file = await open(path);
  const header = Buffer.alloc(blockSize);
  for (let at = 0; (await file.read(header, 0, blockSize, at)).bytesRead === blockSize; ) {
    if (header[0] === 0) break;
    const text = (start: number, length: number): string => {
      const field = header.toString('latin1', start, start + length);
      const end = field.indexOf('\0');
      return end < 0 ? field : field.slice(0, end);
    };
    const prefix = text(257, 5) === 'ustar' ? text(345, 155) : '';
    const name = `${prefix === '' ? '' : `${prefix}/`}${text(0, 100)}`.replace(/^\.\//, '');
    const size = fileSize(header);
    if (text(156, 1) === '' || text(156, 1) === '0') found.set(name, { offset: at + blockSize, size });
    at += blockSize + Math.ceil(size / blockSize) * blockSize;
  }
  return found;
}

/** Octal digits, or (of files over 8 GiB) a big-endian number marked by the first bit. */
function fileSize(header: Buffer): number {
  if (header[124]! & 0x80) return Number(header.readBigUInt64BE(128));
  return Number.parseInt(header.toString('latin1', 124, 136).replaceAll('\0', ' ').trim() || '0', 8);
}

async function readText({ archive, offset, size }: Blob): Promise<string> {
  await using file = await open(archive);
  const { buffer } = await file.read(Buffer.alloc(size), 0, size, offset);
  return buffer.toString('utf8');
}
