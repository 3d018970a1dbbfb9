import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { request, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import * as z from 'zod';
import { writeArchive } from '../../deploy/image/archive.ts';
import { serveImages } from './registry.ts';

let folder: string;
let server: Server;

const image = (name: string) => ({
  names: [name],
  layers: [[{ type: 'file', path: '/name', content: name }] as const],
  settings: {},
});

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'isthmus-registry-'));
  await writeArchive([image('docker.io/library/nginx:latest')], { folder, label: 'first' });
  server = serveImages(folder);
  await new Promise<void>(done => server.listen(join(folder, 'socket'), done));
});
after(async () => {
  server.close();
  await rm(folder, { recursive: true });
});

interface Answer {
  readonly status: number | undefined;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: Buffer;
}

function ask(method: string, path: string): Promise<Answer> {
  return new Promise((done, fail) => {
    const call = request({ socketPath: join(folder, 'socket'), method, path, agent: false }, response => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('end', () =>
        done({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts) }),
      );
    });
    call.on('error', fail);
    call.end();
  });
}

test('a tag is resolved as containerd does it, and every blob behind it is served', async () => {
  assert.equal((await ask('GET', '/v2/')).status, 200);
  const head = await ask('HEAD', '/v2/library/nginx/manifests/latest?ns=docker.io');
  assert.equal(head.status, 200);
  assert.equal(head.headers['content-type'], 'application/vnd.oci.image.manifest.v1+json');
  const digest = z.string().parse(head.headers['docker-content-digest']);
  const { body } = await ask('GET', `/v2/library/nginx/manifests/${digest}?ns=docker.io`);
  assert.equal(`sha256:${createHash('sha256').update(body).digest('hex')}`, digest);
  const descriptor = z.object({ digest: z.string(), size: z.number() });
  const { config, layers } = z
    .object({ config: descriptor, layers: z.array(descriptor) })
    .parse(JSON.parse(body.toString()));
  for (const blob of [config, ...layers]) {
    const answer = await ask('GET', `/v2/library/nginx/blobs/${blob.digest}?ns=docker.io`);
    assert.equal(answer.body.length, blob.size);
    assert.equal(`sha256:${createHash('sha256').update(answer.body).digest('hex')}`, blob.digest);
  }
});

test('an image that the lab does not have is unknown, in words', async () => {
  for (const path of [
    'library/nginx/manifests/1.99?ns=docker.io',
    'library/nginx/manifests/latest?ns=quay.io',
  ]) {
    const answer = await ask('GET', `/v2/${path}`);
    assert.equal(answer.status, 404);
    assert.match(answer.body.toString(), /MANIFEST_UNKNOWN.*the lab has no/);
  }
  assert.equal((await ask('GET', `/v2/x/blobs/sha256:${'0'.repeat(64)}`)).status, 404);
});

test('an archive that is added later is served', async () => {
  const path = '/v2/mine/app/manifests/1?ns=example.org';
  assert.equal((await ask('GET', path)).status, 404);
  await writeArchive([image('example.org/mine/app:1')], { folder, label: 'second' });
  assert.equal((await ask('GET', path)).status, 200);
});

test('nothing can be pushed', async () => {
  assert.equal((await ask('POST', '/v2/library/nginx/blobs/uploads/')).status, 405);
});
