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

test('a long list is sent piece by piece, and the agent does other things between', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-api-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const socketPath = join(folder, 'agent.sock');
  let turns = 0;
  const count = (): void => {
    turns++;
    timer = setImmediate(count);
  };
  let timer = setImmediate(count);
  t.after(() => clearImmediate(timer));
  await using _server = await serveApi({
    socketPath,
    views: {
      // A millisecond of work a row.
      '/v1/long': function* () {
        let seen = turns;
        let since = 0;
        for (let row = 0; row < 200; row++) {
          if (turns !== seen) since = row;
          seen = turns;
          for (const until = performance.now() + 1; performance.now() < until; );
          // A slice is 5 ms: a busy machine makes it fewer rows, never more.
          assert.ok(row - since < 10, `${row - since} rows, and nobody else had a turn`);
          yield { row };
        }
      },
      '/v1/empty': function* () {},
      '/v1/broken': function* () {
        yield* [].map(() => 0);
        throw new Error('no idea');
      },
    },
    registry: new Registry(),
    onError: () => undefined,
  });
  const before = turns;
  const rows = JSON.parse(await askAgent('GET', '/v1/long', socketPath));
  assert.deepEqual([rows.length, rows[199]], [200, { row: 199 }]);
  assert.ok(turns - before >= 20, `${turns - before} turns`);
  assert.equal(await askAgent('GET', '/v1/empty', socketPath), '[]\n');
  await assert.rejects(askAgent('GET', '/v1/broken', socketPath), /500.*no idea/);
});
