import assert from 'node:assert/strict';
import { test } from 'node:test';
import { freePort } from '../../test/free-port.ts';
import { serveProxyHealth } from './proxy-health.ts';

test('kube-proxy’s health port: services work, and the node is to stay', async () => {
  const state = { healthy: true, nodeEligible: true };
  const port = await freePort();
  const server = await serveProxyHealth({ host: '127.0.0.1', port }, () => state);
  const ask = async (path: string): Promise<readonly [number, readonly string[]]> => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    return [
      response.status,
      response.ok || response.status === 503 ? Object.keys((await response.json()) as object) : [],
    ];
  };
  assert.deepEqual(await ask('/healthz'), [200, ['lastUpdated', 'currentTime', 'nodeEligible']]);
  assert.deepEqual(await ask('/livez'), [200, ['lastUpdated', 'currentTime']]);
  state.nodeEligible = false;
  assert.equal((await ask('/healthz'))[0], 503);
  assert.equal((await ask('/livez'))[0], 200);
  state.healthy = false;
  assert.equal((await ask('/livez'))[0], 503);
  assert.equal((await ask('/'))[0], 404);
  server.close();
  server.closeAllConnections();
});
