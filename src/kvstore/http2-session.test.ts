import assert from 'node:assert/strict';
import { test } from 'node:test';
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
