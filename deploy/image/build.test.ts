import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { ensureBinaries } from '../../src/lab/binaries.ts';
import { buildImage } from './build.ts';

const options = { report: () => {} };

test('an image of which nothing changed is only looked up', async () => {
  const first = await buildImage(options);
  const second = await buildImage(options);
  assert.equal(second.path, first.path);
  assert.equal(second.written, false);
});

test('the image is the same bytes when everything is made anew, and it is small', async t => {
  const usual = await buildImage(options);
  // The one thing that is not made anew: etcd takes minutes to build.
  const { etcd } = await ensureBinaries(['etcd', 'etcdctl'], options);
  const cache = await mkdtemp(join(tmpdir(), 'isthmus-image-'));
  const before = { cache: process.env.ISTHMUS_CACHE, binaries: process.env.ISTHMUS_BINARIES };
  t.after(async () => {
    restore('ISTHMUS_CACHE', before.cache);
    restore('ISTHMUS_BINARIES', before.binaries);
    await rm(cache, { recursive: true });
  });
  process.env.ISTHMUS_CACHE = cache;
  process.env.ISTHMUS_BINARIES = dirname(etcd);
  const anew = await buildImage(options);
  assert.ok(anew.path.startsWith(cache));
  assert.equal(anew.images[0]?.digest, usual.images[0]?.digest);
  assert.deepEqual(await readFile(anew.path), await readFile(usual.path));
  assert.ok((anew.images[0]?.size ?? Number.NaN) < 60e6, `the image has ${anew.images[0]?.size} bytes`);
});

function restore(name: string, value: string | undefined): void {
  if (value === undefined) delete process.env[name];
  else process.env[name] = value;
}
