import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { createAuthority, issueCertificate } from '../clustermesh/x509.ts';
import { Http2Session } from './http2-session.ts';

test('an address that swallows packets is given up after the dial timeout, not when the kernel gives up', async () => {
  const attempt = Http2Session.connect({
    authority: 'https://blackhole.example:2379',
    // A name that is never resolved keeps the socket connecting, as packets that are dropped do.
    tls: { host: 'blackhole.example', port: 2379, lookup: () => undefined },
    dialTimeout: 50,
    pingInterval: 1000,
    pingTimeout: 1000,
  });
  await assert.rejects(attempt, { code: 'ETIMEDOUT', message: 'no answer after 50 ms' });
});

test('a far server may send a megabyte before it hears that we read what came first', async () => {
  const [notBefore, notAfter] = [new Date(Date.now() - 60_000), new Date(Date.now() + 3_600_000)];
  const authority = await createAuthority('CA', notBefore, notAfter);
  const pair = await issueCertificate(authority, {
    ...{ commonName: 'server', ipAddresses: ['127.0.0.1'], usages: ['server'], notBefore, notAfter },
  });
  const server = http2.createSecureServer({ cert: pair.cert, key: pair.key });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const connected = once(server, 'session') as Promise<[http2.ServerHttp2Session]>;
  const { port } = server.address() as AddressInfo;
  const session = await Http2Session.connect({
    authority: `https://127.0.0.1:${port}`,
    tls: { host: '127.0.0.1', port, ca: authority.cert },
    dialTimeout: 10_000,
    pingInterval: 10_000,
    pingTimeout: 10_000,
  });
  try {
    const [accepted] = await connected;
    // Its answer to a ping comes after what was sent before.
    await new Promise((resolve, reject) =>
      accepted.ping(error => (error ? reject(error) : resolve(undefined))),
    );
    assert.equal(accepted.remoteSettings.initialWindowSize, 1 << 20);
    assert.equal(accepted.state.remoteWindowSize, 2 << 20);
  } finally {
    session.close();
    server.close();
  }
});
