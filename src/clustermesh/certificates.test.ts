import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import { after, before, beforeEach, test } from 'node:test';
import * as z from 'zod';
import { KubeClient } from '../kube/client.ts';
import { ensureCertificates } from './certificates.ts';
import { createAuthority, isSignedBy, readCertificate } from './x509.ts';

/** Just enough of an API server for Secrets of one namespace. */
const Body = z.object({
  metadata: z.object({ name: z.string(), labels: z.record(z.string(), z.string()) }),
  data: z.record(z.string(), z.string()),
});
const secrets = new Map<string, z.infer<typeof Body>>();
let server: Server;
let client: KubeClient;

before(async () => {
  server = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    const name = request.url?.split('/')[6]?.split('?')[0] ?? '';
    const answer = (code: number, body: object): void => {
      response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    };
    const send = (body: z.infer<typeof Body>): void =>
      answer(200, { ...body, metadata: { ...body.metadata, uid: 'u', resourceVersion: '1' } });
    if (request.method === 'GET') {
      const found = secrets.get(name);
      return found ? send(found) : answer(404, { kind: 'Status', reason: 'NotFound', code: 404 });
    }
    const body = Body.parse(JSON.parse(text));
    secrets.set(body.metadata.name, body);
    send(body);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  client = new KubeClient(
    { server: new URL(`http://127.0.0.1:${port}`), credentials: async () => ({ tls: {}, token: '' }) },
    { component: 'test' },
  );
});
after(() => {
  client.close();
  server.close();
});
beforeEach(() => secrets.clear());

const config = { namespace: 'kube-system', cluster: 'us' };
const all = [
  'isthmus-ca',
  'clustermesh-apiserver-server-cert',
  'clustermesh-apiserver-admin-cert',
  'clustermesh-apiserver-remote-cert',
  'clustermesh-apiserver-local-cert',
];
const pem = (secret: string, key: string): string =>
  Buffer.from(secrets.get(secret)?.data[key] ?? '', 'base64').toString();
const start = new Date('2026-01-01T00:00:00Z');
const later = (days: number): Date => new Date(start.getTime() + days * 86_400_000);

test('certificates are made once, and not again', async () => {
  assert.deepEqual(await ensureCertificates(client, config, start), all);
  assert.deepEqual(await ensureCertificates(client, config, later(30)), []);
  const ca = pem('isthmus-ca', 'ca.crt');
  const names = {
    server: 'clustermesh-apiserver.kube-system.svc',
    admin: 'admin-us',
    local: 'local-us',
    remote: 'remote',
  };
  for (const [kind, commonName] of Object.entries(names)) {
    const cert = pem(`clustermesh-apiserver-${kind}-cert`, 'tls.crt');
    assert.equal((await readCertificate(cert)).commonName, commonName);
    assert.ok(await isSignedBy(cert, ca));
  }
  const { names: sans } = await readCertificate(pem('clustermesh-apiserver-server-cert', 'tls.crt'));
  for (const each of ['*.mesh.cilium.io', '127.0.0.1']) assert.ok(sans.includes(each), sans.join());
});

test('a certificate is renewed by the same authority before it ends', async () => {
  await ensureCertificates(client, config, start);
  const ca = pem('isthmus-ca', 'ca.crt');
  assert.deepEqual(await ensureCertificates(client, config, later(240)), []);
  assert.deepEqual(await ensureCertificates(client, config, later(250)), all.slice(1));
  assert.equal(pem('isthmus-ca', 'ca.crt'), ca);
  const { notAfter } = await readCertificate(pem('clustermesh-apiserver-admin-cert', 'tls.crt'));
  assert.ok(notAfter > later(600));
});

test('what is wanted changes the certificate; what others manage is left alone', async () => {
  await ensureCertificates(client, config, start);
  const wider = { ...config, extraDnsNames: ['mesh.example.com'], extraIpAddresses: ['fd00::1'] };
  assert.deepEqual(await ensureCertificates(client, wider, start), ['clustermesh-apiserver-server-cert']);
  assert.deepEqual(await ensureCertificates(client, wider, start), []);
  const server = secrets.get('clustermesh-apiserver-server-cert')!;
  secrets.set(server.metadata.name, { ...server, metadata: { ...server.metadata, labels: {} } });
  assert.deepEqual(await ensureCertificates(client, config, later(1000)), all.slice(2));
});

test('a broken authority is named', async () => {
  secrets.set('isthmus-ca', { metadata: { name: 'isthmus-ca', labels: {} }, data: { 'ca.crt': 'eA==' } });
  await assert.rejects(
    ensureCertificates(client, config, start),
    /Secret kube-system\/isthmus-ca: expected ca.crt and ca.key/,
  );
});

test('an authority that the cluster was given signs, as cilium-ca does in Cilium', async () => {
  const now = new Date();
  const shared = await createAuthority('Cilium CA', now, new Date(now.getTime() + 3_600_000));
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  secrets.set('cilium-ca', {
    metadata: { name: 'cilium-ca', labels: {} },
    data: { 'ca.crt': base64(shared.cert), 'ca.key': base64(shared.key) },
  });
  await ensureCertificates(client, config, now);
  assert.ok(!secrets.has('isthmus-ca'));
  assert.ok(await isSignedBy(pem('clustermesh-apiserver-server-cert', 'tls.crt'), shared.cert));
});

test('the common client certificate names this cluster where authMode is cluster', async () => {
  const name = async (): Promise<string> =>
    (await readCertificate(pem('clustermesh-apiserver-remote-cert', 'tls.crt'))).commonName;
  await ensureCertificates(client, config, start);
  assert.equal(await name(), 'remote');
  await ensureCertificates(client, { ...config, ownRemoteUser: true }, start);
  assert.equal(await name(), 'remote-us');
});
