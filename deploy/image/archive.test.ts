import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import { extract, type Header } from 'tar-stream';
import * as z from 'zod';
import { complete, type Image, writeArchive } from './archive.ts';

let root: string;
let program: string;

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'isthmus-archive-'));
  program = join(root, 'program');
  await writeFile(program, 'a program');
});
after(() => rm(root, { recursive: true }));

const base = [{ type: 'file', path: '/etc/hostname', content: 'base' }] as const;
const image = (name: string, text: string): Image => ({
  names: [`example.org/${name}:1`, `example.org/${name}:latest`],
  layers: [
    base,
    [
      { type: 'file', path: '/bin/program', mode: 0o755, content: { file: program } },
      { type: 'file', path: '/text', content: text },
    ],
  ],
  settings: { entrypoint: ['/bin/program'], command: ['--serve'], user: '65532', ports: ['80/tcp'] },
});

test('the same images give the same bytes, wherever and whenever they are made', async () => {
  const first = await writeArchive([image('one', 'x')], { folder: join(root, 'a'), label: 'test' });
  await utimes(program, 1, 1);
  const second = await writeArchive([image('one', 'x')], { folder: join(root, 'b'), label: 'test' });
  assert.deepEqual(await readFile(second.path), await readFile(first.path));
  assert.equal(second.images[0]?.digest, first.images[0]?.digest);
});

test('an unchanged archive is only looked up; a changed one shares the layers that did not change', async () => {
  const options = { folder: join(root, 'c'), label: 'test' };
  const first = await writeArchive([image('one', 'x')], options);
  assert.equal(first.written, true);
  assert.equal((await writeArchive([image('one', 'x')], options)).written, false);
  const changed = await writeArchive([image('one', 'y')], options);
  assert.notEqual(changed.path, first.path);
  const layers = (await readdir(join(options.folder, 'blobs'))).filter(name => !name.endsWith('.json'));
  assert.equal(layers.length, 3);
});

test('a file that changed on disk is read again', async () => {
  const options = { folder: join(root, 'd'), label: 'test' };
  const first = await writeArchive([image('one', 'x')], options);
  await writeFile(program, 'another program');
  const second = await writeArchive([image('one', 'x')], options);
  assert.notEqual(second.images[0]?.digest, first.images[0]?.digest);
});

test('the archive is an OCI image layout: every digest is true, every name is there, layers are shared', async () => {
  const { path } = await writeArchive([image('one', 'x'), image('two', 'y')], {
    folder: join(root, 'e'),
    label: 'test',
  });
  const files = await untar(await readFile(path));
  const json = (name: string): unknown => JSON.parse(files.get(name)?.bytes.toString() ?? 'null');
  assert.deepEqual(json('oci-layout'), { imageLayoutVersion: '1.0.0' });

  const descriptor = z.object({ digest: z.string(), size: z.number() });
  const blob = (wanted: z.infer<typeof descriptor>): Buffer => {
    const { bytes } =
      files.get(`blobs/sha256/${wanted.digest.slice(7)}`) ?? assert.fail(`no blob ${wanted.digest}`);
    assert.equal(bytes.length, wanted.size);
    assert.equal(sha256(bytes), wanted.digest);
    return bytes;
  };
  const index = z
    .object({ manifests: z.array(descriptor.extend({ annotations: z.record(z.string(), z.string()) })) })
    .parse(json('index.json'));
  assert.deepEqual(
    index.manifests.map(manifest => manifest.annotations['io.containerd.image.name']),
    ['example.org/one:1', 'example.org/one:latest', 'example.org/two:1', 'example.org/two:latest'],
  );
  const bottoms = new Set<string>();
  for (const each of index.manifests) {
    const manifest = z
      .object({ config: descriptor, layers: z.array(descriptor) })
      .parse(JSON.parse(blob(each).toString()));
    const config = z
      .object({ config: z.looseObject({}), rootfs: z.object({ diff_ids: z.array(z.string()) }) })
      .parse(JSON.parse(blob(manifest.config).toString()));
    assert.deepEqual(config.config.Entrypoint, ['/bin/program']);
    assert.deepEqual(config.config.ExposedPorts, { '80/tcp': {} });
    assert.deepEqual(
      manifest.layers.map(layer => sha256(zstdDecompressSync(blob(layer)))),
      config.rootfs.diff_ids,
    );
    bottoms.add(manifest.layers[0]?.digest ?? '');
  }
  assert.equal(bottoms.size, 1);
});

test('a layer keeps modes, and its times, owners and order do not depend on this machine', async () => {
  const { path } = await writeArchive([image('one', 'x')], { folder: join(root, 'f'), label: 'test' });
  const archive = await untar(await readFile(path));
  const layers = [...archive].filter(
    ([name, { bytes }]) => name.startsWith('blobs/') && bytes.readUInt32LE(0) === 0xfd2fb528,
  );
  const files = await untar(zstdDecompressSync(layers.at(-1)?.[1].bytes ?? assert.fail('no layer')));
  assert.deepEqual([...files.keys()], ['bin', 'bin/program', 'text']);
  const { header } = files.get('bin/program') ?? assert.fail();
  assert.equal(header.mode, 0o755);
  assert.deepEqual([header.uid, header.gid, header.uname, header.gname], [0, 0, '', '']);
  assert.equal(header.mtime?.toISOString(), '2026-01-01T00:00:00.000Z');
});

test('only the newest archives of a label are kept, and what may be in use', async () => {
  const options = { folder: join(root, 'g'), label: 'test' };
  const longAgo = new Date(Date.now() - 2 * 3600 * 1000);
  for (const text of ['1', '2', '3', '4']) {
    const { path } = await writeArchive([image('one', text)], options);
    await utimes(path, longAgo, longAgo);
  }
  await writeArchive([image('one', '5')], options);
  await writeArchive([image('other', '1')], { ...options, label: 'other' });
  const archives = (await readdir(options.folder)).filter(name => name.endsWith('.tar'));
  assert.equal(archives.filter(name => name.startsWith('test-')).length, 3);
  assert.equal(archives.filter(name => name.startsWith('other-')).length, 1);
});

test('what a power cut left of a layer in the cache is made anew', async () => {
  const blobs = join(root, 'h/blobs');
  const write = (text: string) =>
    writeArchive([image('one', text)], { folder: join(root, 'h'), label: 'test' });
  const { path, images } = await write('x');
  const whole = await readFile(path);
  for (const torn of ['.json', '']) {
    for (const name of await readdir(blobs))
      if (name.endsWith('.json') === (torn !== '')) await truncate(join(blobs, name));
    await rm(path);
    assert.deepEqual((await write('x')).images, images);
    assert.deepEqual(await readFile(path), whole);
  }
});

test('a layer that no unpacker could take is refused', () => {
  const file = (path: string, content = ''): { type: 'file'; path: string; content: string } => ({
    type: 'file',
    path,
    content,
  });
  assert.throws(() => complete([file('/a', '1'), file('a', '2')]), /'\/a' is given twice/);
  assert.throws(() => complete([file('/a'), file('/a/b')]), /'\/a' is a file and has '\/a\/b' below it/);
  assert.throws(() => complete([file('../a')]), /bad path/);
  assert.deepEqual(
    complete([file('/b'), file('/a/c/d')]).map(entry => entry.path),
    ['a', 'a/c', 'a/c/d', 'b'],
  );
});

test('a name without a tag is refused', async () => {
  const untagged = { ...image('one', 'x'), names: ['localhost:5000/one'] };
  await assert.rejects(
    writeArchive([untagged], { folder: join(root, 'h'), label: 'test' }),
    /expected a tag/,
  );
});

function untar(archive: Buffer): Promise<Map<string, { header: Header; bytes: Buffer }>> {
  const files = new Map<string, { header: Header; bytes: Buffer }>();
  return new Promise((done, fail) => {
    const reader = extract();
    reader.on('entry', (header, stream, next) => {
      const parts: Uint8Array[] = [];
      stream.on('data', (part: unknown) => {
        if (part instanceof Uint8Array) parts.push(part);
      });
      stream.on('end', () => {
        files.set(header.name, { header, bytes: Buffer.concat(parts) });
        next();
      });
    });
    reader.on('finish', () => done(files));
    reader.on('error', fail);
    reader.end(archive);
  });
}

const sha256 = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
