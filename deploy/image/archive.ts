import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createZstdCompress } from 'node:zlib';
import { type Pack, pack } from 'tar-stream';
import { pruneLayers, pruneOldest, touch } from './prune.ts';

/**
 * Container images as OCI image layouts in one tar file, made without a daemon, a registry or root
 * (OCI image specification 1.1, image-layout.md). The archive is read by `ctr image import`,
 * `docker load`, `skopeo` and `podman load`.
 *
 * Same entries in, same bytes out: entries are sorted, times are one constant, owners are numbers, and the
 * compressor is the one inside the pinned Node. Layers are cached by what they are made of, so an image of
 * which only the last layer changed costs only that layer.
 */

/** One path of a layer. Parents that are not listed are made as directories of mode 0755. */
export type Entry =
  | { readonly type: 'directory'; readonly path: string; readonly mode?: number; readonly uid?: number }
  | { readonly type: 'file'; readonly path: string; readonly mode?: number; readonly content: Content }
  | { readonly type: 'symlink'; readonly path: string; readonly target: string };

/** Text or bytes, or the content of a file of this machine. */
export type Content = string | Uint8Array | { readonly file: string };

export type Layer = readonly Entry[];

/** The part of an image's configuration that a container runtime obeys; absent means the runtime's default. */
export interface Settings {
  readonly entrypoint?: readonly string[];
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly user?: string;
  readonly workingDirectory?: string;
  readonly ports?: readonly string[];
  readonly stopSignal?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

export interface Image {
  /** Full references, such as `docker.io/library/busybox:1.36`. */
  readonly names: readonly string[];
  /** Lowest first. Put what changes rarely first. */
  readonly layers: readonly Layer[];
  readonly settings: Settings;
}

export interface Archive {
  readonly path: string;
  readonly images: readonly {
    readonly names: readonly string[];
    readonly digest: string;
    readonly size: number;
  }[];
  /** False if the archive was there already. */
  readonly written: boolean;
}

export interface ArchiveOptions {
  /** Where layers and archives are kept. */
  readonly folder: string;
  /** First part of the archive's file name. */
  readonly label: string;
  /** zstd level, 1 (fast) to 19 (small). */
  readonly level?: number;
}

/** 2026-01-01: a time, because some programs take the epoch itself for "unknown". */
const created = new Date(Date.UTC(2026, 0, 1));

const mediaTypes = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+zstd',
} as const;

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** A layer as it lies in the cache: `digest` and `size` of the compressed tar, `diffId` of the tar itself. */
interface LayerBlob extends Descriptor {
  readonly diffId: string;
}

/** Writes all images into one archive; its name carries its content, so an unchanged one is only looked up. */
export async function writeArchive(images: readonly Image[], options: ArchiveOptions): Promise<Archive> {
  const blobFolder = join(options.folder, 'blobs');
  await mkdir(blobFolder, { recursive: true });

  const files = new Map<string, Content>();
  const references: (Descriptor & { annotations: Record<string, string>; platform: typeof platform })[] = [];
  const dockerManifest: { Config: string; RepoTags: readonly string[]; Layers: string[] }[] = [];
  const summaries: { names: readonly string[]; digest: string; size: number }[] = [];
  const addJson = (mediaType: string, value: unknown): Descriptor => {
    const text = JSON.stringify(value);
    const digest = `sha256:${sha256(text)}`;
    files.set(blobPath(digest), text);
    return { mediaType, digest, size: Buffer.byteLength(text) };
  };

  for (const image of images) {
    const layers: LayerBlob[] = [];
    for (const layer of image.layers) layers.push(await layerBlob(layer, blobFolder, options.level ?? 3));
    for (const layer of layers)
      files.set(blobPath(layer.digest), { file: join(blobFolder, hex(layer.digest)) });
    const config = addJson(mediaTypes.config, imageConfig(image.settings, layers));
    const manifest = addJson(mediaTypes.manifest, {
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      config,
      layers: layers.map(({ mediaType, digest, size }) => ({ mediaType, digest, size })),
    });
    for (const name of image.names) {
      const annotations = {
        'io.containerd.image.name': name,
        'org.opencontainers.image.ref.name': tagOf(name),
      };
      references.push({ ...manifest, platform, annotations });
    }
    dockerManifest.push({
      Config: blobPath(config.digest),
      RepoTags: image.names,
      Layers: layers.map(layer => blobPath(layer.digest)),
    });
    const size = layers.reduce((sum, layer) => sum + layer.size, 0);
    summaries.push({ names: image.names, digest: manifest.digest, size });
  }

  const index = JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: references });
  files.set('oci-layout', JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  files.set('index.json', index);
  files.set('manifest.json', JSON.stringify(dockerManifest));

  const path = join(options.folder, `${options.label}-${sha256(index).slice(0, 16)}.tar`);
  if (await exists(path)) return { path, images: summaries, written: false };
  const entries = [...files].map(([name, content]): Entry => ({ type: 'file', path: name, content }));
  await writeAtomically(path, temporary => pipeline(tar(entries), createWriteStream(temporary)));
  await pruneOldest(options.folder, options.label, 3);
  await pruneLayers(blobFolder);
  return { path, images: summaries, written: true };
}

const platform = { architecture: process.arch === 'x64' ? 'amd64' : process.arch, os: 'linux' } as const;

function imageConfig(settings: Settings, layers: readonly LayerBlob[]): unknown {
  const environment = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    ...settings.environment,
  };
  return {
    ...platform,
    created: created.toISOString(),
    config: {
      Env: Object.entries(environment).map(([key, value]) => `${key}=${value}`),
      Entrypoint: settings.entrypoint,
      Cmd: settings.command,
      User: settings.user,
      WorkingDir: settings.workingDirectory,
      ExposedPorts: settings.ports && Object.fromEntries(settings.ports.map(port => [port, {}])),
      StopSignal: settings.stopSignal,
      Labels: settings.labels,
    },
    rootfs: { type: 'layers', diff_ids: layers.map(layer => layer.diffId) },
    history: layers.map(() => ({ created: created.toISOString(), created_by: 'isthmus' })),
  };
}

/** The layer from the cache, or made. */
async function layerBlob(layer: Layer, folder: string, level: number): Promise<LayerBlob> {
  const entries = complete(layer);
  const note = join(folder, `${await layerKey(entries, level)}.json`);
  const known = await knownBlob(note);
  const stored = known && join(folder, hex(known.digest));
  if (stored && (await sizeOf(stored)) === known.size) {
    await touch(stored);
    return known;
  }
  const temporary = join(folder, `new-${process.pid}-${sha256(note).slice(0, 8)}`);
  const plain = hashing();
  const compressed = hashing();
  const compressor = createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: level } });
  try {
    await pipeline(tar(entries), plain.through, compressor, compressed.through, createWriteStream(temporary));
    const blob: LayerBlob = {
      mediaType: mediaTypes.layer,
      digest: compressed.digest(),
      size: compressed.size(),
      diffId: plain.digest(),
    };
    await rename(temporary, join(folder, hex(blob.digest)));
    await writeAtomically(note, path => writeFile(path, JSON.stringify(blob)));
    return blob;
  } finally {
    await rm(temporary, { force: true });
  }
}

/** A machine that lost its power in the middle of a write leaves less than was written: that is as good as nothing. */
async function knownBlob(note: string): Promise<LayerBlob | undefined> {
  try {
    return JSON.parse(await readFile(note, 'utf8')) as LayerBlob;
  } catch {
    return undefined;
  }
}

const sizeOf = (file: string): Promise<number | undefined> =>
  stat(file).then(
    ({ size }) => size,
    () => undefined,
  );

/**
 * What a layer is made of, cheaply: the bytes of what is in memory; name, size and time of what is a file. (Reading
 * Node's 150 MB to learn that it has not changed would take longer than everything else together.)
 */
async function layerKey(entries: Layer, level: number): Promise<string> {
  const hash = createHash('sha256').update(`zstd ${level} ${process.versions.zstd}\n`);
  for (const entry of entries) {
    const { type, path } = entry;
    if (entry.type !== 'file') {
      hash.update(`${JSON.stringify(entry)}\n`);
      continue;
    }
    const { content } = entry;
    hash.update(`${JSON.stringify([type, path, entry.mode])} `);
    if (typeof content === 'string' || content instanceof Uint8Array) hash.update(sha256(content));
    else {
      const { size, mtimeNs, ino } = await stat(content.file, { bigint: true });
      hash.update(`${content.file} ${size} ${mtimeNs} ${ino}`);
    }
    hash.update('\n');
  }
  return hash.digest('hex');
}

/** Sorted by path, without duplicates, every parent present: a tar that every unpacker takes. */
export function complete(layer: Layer): Layer {
  const entries = new Map<string, Entry>();
  for (const entry of layer) {
    const path = entry.path.replace(/^\/+|\/+$/g, '');
    if (path === '' || path.split('/').includes('..'))
      throw new Error(`image layer: bad path '${entry.path}'`);
    const previous = entries.get(path);
    if (previous && JSON.stringify(previous) !== JSON.stringify({ ...entry, path })) {
      throw new Error(`image layer: '/${path}' is given twice, as ${previous.type} and as ${entry.type}`);
    }
    entries.set(path, { ...entry, path });
  }
  for (const path of [...entries.keys()]) {
    for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
      const parent = path.slice(0, end);
      const known = entries.get(parent);
      if (known && known.type !== 'directory')
        throw new Error(`image layer: '/${parent}' is a ${known.type} and has '/${path}' below it`);
      if (!known) entries.set(parent, { type: 'directory', path: parent });
    }
  }
  return [...entries.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

function tar(entries: Layer): Pack {
  const stream = pack();
  const write = async (): Promise<void> => {
    for (const entry of entries) {
      const common = { name: entry.path, mtime: created, gid: 0, uname: '', gname: '' };
      if (entry.type === 'directory') {
        stream.entry({ ...common, uid: entry.uid ?? 0, type: 'directory', mode: entry.mode ?? 0o755 });
      } else if (entry.type === 'symlink') {
        stream.entry({ ...common, uid: 0, type: 'symlink', mode: 0o777, linkname: entry.target });
      } else {
        const bytes = await bytesOf(entry.content);
        const header = { ...common, uid: 0, mode: entry.mode ?? 0o644, size: bytes.length };
        await new Promise<void>((resolve, reject) => {
          stream.entry(header, bytes, error => (error ? reject(error) : resolve()));
        });
      }
    }
    stream.finalize();
  };
  write().catch((error: unknown) =>
    stream.destroy(error instanceof Error ? error : new Error(String(error))),
  );
  return stream;
}

async function bytesOf(content: Content): Promise<Buffer> {
  if (typeof content === 'string') return Buffer.from(content);
  if (content instanceof Uint8Array) return Buffer.from(content.buffer, content.byteOffset, content.length);
  return readFile(content.file);
}

function hashing(): { through: Transform; digest(): string; size(): number } {
  const hash = createHash('sha256');
  let size = 0;
  const through = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      size += chunk.length;
      done(null, chunk);
    },
  });
  return { through, digest: () => `sha256:${hash.digest('hex')}`, size: () => size };
}

async function writeAtomically(path: string, write: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = `${path}.${process.pid}.new`;
  try {
    await write(temporary);
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
}

function tagOf(name: string): string {
  const tag = /:([\w][\w.-]*)$/.exec(name)?.[1];
  if (tag === undefined) throw new Error(`image name '${name}': expected a tag, as in ${name}:1.0`);
  return tag;
}

const sha256 = (content: string | Uint8Array): string => createHash('sha256').update(content).digest('hex');
const hex = (digest: string): string => digest.slice('sha256:'.length);
const blobPath = (digest: string): string => `blobs/sha256/${hex(digest)}`;
const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );
