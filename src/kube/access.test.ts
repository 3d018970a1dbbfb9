import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { inClusterAccess, watchedFile } from './access.ts';
import { KubeClient } from './client.ts';
import { kubeconfigAccess, kubeconfigContexts } from './kubeconfig.ts';
import { KubeError } from './status.ts';

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'isthmus-access-'));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

const base64 = (text: string) => Buffer.from(text).toString('base64');

test('the service account: address from the options or the environment, IPv6 in brackets', async t => {
  const directory = folder(t);
  writeFileSync(join(directory, 'token'), 'one\n');
  writeFileSync(join(directory, 'ca.crt'), 'CA');
  const access = inClusterAccess({ host: 'fd00::1', port: 6443, directory });
  assert.equal(access.server.href, 'https://[fd00::1]:6443/');
  assert.deepEqual(await access.credentials(), { tls: { ca: 'CA' }, token: 'one' });
  const { tls } = await access.credentials();
  assert.equal((await access.credentials()).tls, tls, 'the same object while nothing changed');
  const host = process.env.KUBERNETES_SERVICE_HOST;
  delete process.env.KUBERNETES_SERVICE_HOST;
  t.after(() => {
    if (host !== undefined) process.env.KUBERNETES_SERVICE_HOST = host;
  });
  assert.throws(
    () => inClusterAccess({ directory }),
    /k8sServiceHost or KUBERNETES_SERVICE_HOST must name one/,
  );
});

test('a rotated token is read again', async t => {
  const path = join(folder(t), 'token');
  let now = 10_000;
  t.mock.method(performance, 'now', () => now);
  writeFileSync(path, 'one');
  const read = watchedFile(path);
  assert.equal(await read(), 'one');
  writeFileSync(path, 'second');
  assert.equal(await read(), 'one', 'not asked of the disk more than once a second');
  now += 1001;
  assert.equal(await read(), 'second');
});

test('a kubeconfig: contexts, data, files beside it, merged first wins', async t => {
  const directory = folder(t);
  writeFileSync(join(directory, 'ca.pem'), 'CA of eu');
  writeFileSync(join(directory, 'token'), 'token of eu\n');
  const one = join(directory, 'one');
  const two = join(directory, 'two');
  writeFileSync(
    one,
    `current-context: us
clusters: [{name: us, cluster: {server: 'https://10.0.0.1:6443', certificate-authority-data: ${base64('CA of us')}}}]
users: [{name: us, user: {client-certificate-data: ${base64('cert')}, client-key-data: ${base64('key')}}}]
contexts: [{name: us, context: {cluster: us, user: us}}, {name: broken, context: {cluster: nowhere, user: us}}]
`,
  );
  writeFileSync(
    two,
    `current-context: eu
clusters: [{name: eu, cluster: {server: 'https://10.0.0.2', certificate-authority: ca.pem, tls-server-name: api}}]
users: [{name: eu, user: {tokenFile: token}}, {name: us, user: {token: other}}]
contexts: [{name: eu, context: {cluster: eu, user: eu}}]
`,
  );
  const kubeconfig = `${one}:${two}`;
  assert.deepEqual(kubeconfigContexts(kubeconfig), { current: 'us', names: ['us', 'broken', 'eu'] });
  const us = kubeconfigAccess({ kubeconfig });
  assert.equal(us.server.host, '10.0.0.1:6443');
  const { tls, token } = await us.credentials();
  assert.equal(token, undefined);
  assert.deepEqual([String(tls.ca), String(tls.cert), String(tls.key)], ['CA of us', 'cert', 'key']);
  const eu = await kubeconfigAccess({ kubeconfig, context: 'eu' }).credentials();
  assert.equal(eu.token, 'token of eu');
  assert.deepEqual([String(eu.tls.ca), eu.tls.servername], ['CA of eu', 'api']);
  assert.throws(
    () => kubeconfigAccess({ kubeconfig, context: 'asia' }),
    /no context asia; there are: us, broken, eu/,
  );
  assert.throws(() => kubeconfigAccess({ kubeconfig, context: 'broken' }), /names cluster nowhere/);
  writeFileSync(two, 'clusters: [{name: eu}]');
  assert.throws(() => kubeconfigContexts(kubeconfig), /kubeconfig .*two: .*clusters\[0\]\.cluster/s);
});

test('requests: headers, refusals that are no Status, answers that do not come', async t => {
  const seen: IncomingHttpHeaders[] = [];
  const server = createServer((request, response) => {
    seen.push(request.headers);
    if (request.url === '/silent') return;
    if (request.url === '/busy') response.writeHead(429, { 'retry-after': '3' }).end('later');
    else response.end('{"ok":true}');
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close().closeAllConnections());
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const client = new KubeClient(
    { server: url, credentials: async () => ({ tls: {}, token: 'secret' }) },
    { component: 'isthmus-test', version: '1.2.3' },
  );
  t.after(() => client.close());
  assert.deepEqual(await client.request('GET', '/fine'), { ok: true });
  assert.equal(seen[0]?.authorization, 'Bearer secret');
  assert.match(seen[0]?.['user-agent'] ?? '', /^isthmus-test\/1\.2\.3 \(linux\//);
  await assert.rejects(client.request('GET', '/busy'), error => {
    assert.ok(error instanceof KubeError);
    assert.deepEqual([error.code, error.retryAfter], [429, 3000]);
    assert.equal(error.message, 'GET /busy: 429: later');
    return true;
  });
  await assert.rejects(
    client.request('GET', '/silent', { timeout: 20 }),
    /GET .*\/silent: no answer after 20 ms/,
  );
  const gone = new AbortController();
  const pending = client.request('GET', '/silent', { signal: gone.signal });
  gone.abort();
  await assert.rejects(pending, { name: 'AbortError' });
});
