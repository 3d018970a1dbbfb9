import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Registry } from 'prom-client';
import { askAgent } from './api-client.ts';
import { serveApi } from './api-server.ts';

test('questions are answered, wrong ones explained, and the socket goes with the agent', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-api-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const socketPath = join(folder, 'run/agent.sock');
  let done = 0;
  const errors: string[] = [];
  const server = await serveApi({
    socketPath,
    views: {
      '/v1/status': () => ({ node: 'n1' }),
      '/v1/broken': () => {
        throw new Error('no idea');
      },
    },
    actions: { '/v1/do': async () => void done++ },
    registry: new Registry(),
    onError: path => errors.push(path),
  });
  assert.deepEqual(JSON.parse(await askAgent('GET', '/v1/status', socketPath)), { node: 'n1' });
  await askAgent('POST', '/v1/do', socketPath);
  assert.equal(done, 1);
  await assert.rejects(askAgent('GET', '/v1/do', socketPath), /405.*wants POST/);
  await assert.rejects(askAgent('GET', '/v1/what', socketPath), /404.*no \/v1\/what; there is \/v1\/status/);
  await assert.rejects(askAgent('GET', '/v1/broken', socketPath), /500.*no idea/);
  assert.deepEqual(errors, ['/v1/broken']);
  await server[Symbol.asyncDispose]();
  assert.equal(existsSync(socketPath), false);
  await assert.rejects(askAgent('GET', '/v1/status', socketPath), /no agent listens on/);
});
