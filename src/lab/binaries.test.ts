import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { type BinaryOptions, ensureBinaries, type Obtain } from './binaries.ts';
import { type Component, components } from './binary-catalog.ts';
import { checksumFor, downloadBinaries } from './binary-download.ts';

let folder: string;
let options: BinaryOptions;
let reported: string[];

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'isthmus-binaries-'));
});
after(() => rm(folder, { recursive: true }));

beforeEach(async () => {
  reported = [];
  await rm(folder, { recursive: true, force: true });
  for (const component of components) {
    const modules = join(folder, 'modules', component.folder);
    await mkdir(modules, { recursive: true });
    await writeFile(join(modules, 'go.mod'), `module m\n\nrequire ${component.module} v1.2.3\n`);
  }
  options = {
    folder: join(folder, 'user'),
    report: line => reported.push(line),
    cache: join(folder, 'cache'),
    modules: join(folder, 'modules'),
    obtain: [],
  };
});

const obtaining = (calls: string[], label: string): Obtain => {
  return async (component, version, names, target) => {
    calls.push(`${label} ${component.name} ${version} ${names.join(' ')}`);
    for (const name of names) await writeFile(join(target, name), label, { mode: 0o755 });
    return names;
  };
};
const failing = (calls: string[], label: string): Obtain => {
  return async () => {
    calls.push(label);
    throw new Error(`${label} failed`);
  };
};

test('a folder of the user comes first, for what is in it', async () => {
  await mkdir(join(folder, 'user'), { recursive: true });
  await writeFile(join(folder, 'user', 'kubectl'), '', { mode: 0o755 });
  const calls: string[] = [];
  const found = await ensureBinaries(['kubectl', 'kubelet'], {
    ...options,
    obtain: [obtaining(calls, 'download')],
  });
  assert.equal(found.kubectl, join(folder, 'user', 'kubectl'));
  assert.match(found.kubelet, /cache\/kubernetes-v1\.2\.3-[0-9a-f]{8}\/kubelet$/);
  assert.deepEqual(calls, ['download kubernetes v1.2.3 kubelet']);
});

test('what is in the cache is not obtained again, and a component is obtained at once', async () => {
  const calls: string[] = [];
  const obtain = [obtaining(calls, 'download')];
  await ensureBinaries(['etcd', 'kubectl', 'etcdctl'], { ...options, obtain });
  await ensureBinaries(['etcd', 'kubectl', 'etcdctl'], { ...options, obtain });
  assert.deepEqual(calls, ['download etcd v1.2.3 etcd etcdctl', 'download kubernetes v1.2.3 kubectl']);
});

test('a failed download falls through to the build and says why', async () => {
  const calls: string[] = [];
  const obtain = [failing(calls, 'download'), obtaining(calls, 'build')];
  await ensureBinaries(['helm'], { ...options, obtain });
  assert.deepEqual(calls, ['download', 'build helm v1.2.3 helm']);
  assert.deepEqual(reported, ['helm v1.2.3: download failed']);
});

test('what is not published is built, and only that', async () => {
  const calls: string[] = [];
  const partly: Obtain = async (_component, _version, names, target) => {
    const published = names.filter(name => name !== 'agnhost');
    for (const name of published) await writeFile(join(target, name), '', { mode: 0o755 });
    return published;
  };
  await ensureBinaries(['kubelet', 'agnhost'], { ...options, obtain: [partly, obtaining(calls, 'build')] });
  assert.deepEqual(calls, ['build kubernetes v1.2.3 agnhost']);
});

test('two callers at once obtain a component once', async () => {
  const calls: string[] = [];
  const obtain = [obtaining(calls, 'build')];
  await Promise.all([
    ensureBinaries(['etcd'], { ...options, obtain }),
    ensureBinaries(['etcdctl', 'etcd'], { ...options, obtain }),
  ]);
  assert.deepEqual(calls, ['build etcd v1.2.3 etcd', 'build etcd v1.2.3 etcdctl']);
});

test('when nothing works, the error has every reason and the way out, and the cache no half of it', async () => {
  const obtain = [failing([], 'download'), failing([], 'build')];
  await assert.rejects(ensureBinaries(['coredns'], { ...options, obtain }), (error: Error) => {
    assert.match(error.message, /coredns v1\.2\.3/);
    assert.match(error.message, /download failed/);
    assert.match(error.message, /build failed/);
    assert.match(error.message, /ISTHMUS_BINARIES/);
    return true;
  });
  assert.deepEqual(await readdir(join(folder, 'cache')).catch(() => []), []);
});

test('another pinned version is another place in the cache', async () => {
  const obtain = [obtaining([], 'build')];
  const first = await ensureBinaries(['helm'], { ...options, obtain });
  await writeFile(join(folder, 'modules', 'helm', 'go.mod'), 'require helm.sh/helm/v3 v1.2.4\n');
  const second = await ensureBinaries(['helm'], { ...options, obtain });
  assert.match(second.helm, /helm-v1\.2\.4-/);
  assert.notEqual(first.helm, second.helm);
});

test('a file that is not executable does not count', async () => {
  await mkdir(join(folder, 'user'), { recursive: true });
  await writeFile(join(folder, 'user', 'helm'), '');
  await chmod(join(folder, 'user', 'helm'), 0o644);
  const found = await ensureBinaries(['helm'], { ...options, obtain: [obtaining([], 'build')] });
  assert.match(found.helm, /cache/);
});

test('checksum files of every kind are read', () => {
  const sum = 'a'.repeat(64);
  assert.equal(checksumFor(sum, 'kubelet'), sum);
  assert.equal(checksumFor(`${'b'.repeat(64)}  other.tar.gz\n${sum}  etcd.tar.gz\n`, 'etcd.tar.gz'), sum);
  assert.equal(checksumFor(`${sum} *coredns.tgz\n`, 'coredns.tgz'), sum);
  assert.equal(checksumFor('<html>not found</html>', 'kubelet'), undefined);
});

test('a download is taken from its archive if its checksum is right, refused if not', async () => {
  const tar = pack();
  tar.entry({ name: './etcd-x/etcd' }, 'the program');
  tar.finalize();
  const parts: Uint8Array[] = [];
  for await (const part of tar) if (part instanceof Uint8Array) parts.push(part);
  const archive = gzipSync(Buffer.concat(parts));
  let sum = createHash('sha256').update(archive).digest('hex');
  const server = createServer((request, response) => {
    if (request.url === '/etcd.tar.gz') response.end(archive);
    else response.end(`${sum}  etcd.tar.gz\n`);
  });
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  const base = `http://127.0.0.1:${port}`;
  const component: Component = {
    name: 'etcd',
    folder: 'etcd',
    module: 'm',
    packages: {},
    linkerFlags: () => [],
    download: () => ({ url: `${base}/etcd.tar.gz`, checksumUrl: `${base}/sums`, member: 'etcd-x/etcd' }),
  };
  const target = join(folder, 'target');
  await mkdir(target);
  const run = () => downloadBinaries(component, 'v1', ['etcd'], target, { report: () => {}, modules: '' });
  try {
    await run();
    assert.deepEqual(await readdir(target), ['etcd']);
    sum = 'c'.repeat(64);
    await assert.rejects(run(), /SHA-256 is .* expected c{64}/);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
