import assert from 'node:assert/strict';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { createRegistry, serveHealth, serveMetrics } from './health.ts';

async function get(t: TestContext, server: Server, path: string): Promise<[number, string]> {
  t.after(() => server.close());
  const response = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`);
  return [response.status, await response.text()];
}

test('probes say what is not well, by name', async t => {
  let reason: string | undefined = 'cannot be reached';
  const server = await serveHealth({
    host: '127.0.0.1',
    port: 0,
    ready: { 'API server': () => reason, datapath: () => undefined },
  });
  assert.deepEqual(await get(t, server, '/healthz'), [200, 'ok\n']);
  assert.deepEqual(await get(t, server, '/readyz'), [503, 'API server: cannot be reached\n']);
  reason = undefined;
  assert.deepEqual(await get(t, server, '/readyz?verbose'), [200, 'ok\n']);
  assert.equal((await get(t, server, '/'))[0], 404);
});

test("metrics have the process's memory and the event loop's delay", async t => {
  const server = await serveMetrics({ host: '127.0.0.1', port: 0 }, createRegistry());
  const [code, text] = await get(t, server, '/metrics');
  assert.equal(code, 200);
  assert.match(text, /process_resident_memory_bytes \d/);
  assert.match(text, /nodejs_eventloop_lag_p99_seconds /);
});

test('a port in use is an error', async t => {
  const server = await serveHealth({ host: '127.0.0.1', port: 0 });
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  await assert.rejects(serveHealth({ host: '127.0.0.1', port }), /EADDRINUSE/);
});
