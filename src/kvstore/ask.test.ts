import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { askOnce } from './ask.ts';
import { KV, RangeResponseSchema } from './gen/etcd/api/etcdserverpb/rpc_pb.js';

type Answer = (stream: http2.ServerHttp2Stream) => void;

/** Asks for a range, which a server answers so. */
async function asked(answer: Answer, options: { signal?: AbortSignal; timeoutMs?: number } = {}) {
  const server = http2.createServer();
  server.on('sessionError', () => undefined);
  server.on('stream', stream => {
    stream.on('error', () => undefined);
    answer(stream as http2.ServerHttp2Stream);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  client.on('error', () => undefined);
  const session = {
    request: (path: string, headers: http2.OutgoingHttpHeaders) =>
      client.request({ ...headers, ':method': 'POST', ':path': path }),
    heard: () => undefined,
  };
  try {
    return await askOnce(session, KV.method.range, {}, { timeoutMs: 0, ...options });
  } finally {
    client.destroy();
    server.close();
  }
}

const message = toBinary(
  RangeResponseSchema,
  create(RangeResponseSchema, { kvs: [{ key: Uint8Array.of(1), value: new Uint8Array(100_000).fill(7) }] }),
);
const frame = Buffer.concat([Buffer.from([0, 0, 0, 0, 0]), message]);
frame.writeUInt32BE(message.length, 1);

const answerWith =
  (body: Buffer, trailers: Record<string, string> | undefined): Answer =>
  stream => {
    stream.respond({ ':status': 200 }, { waitForTrailers: true });
    stream.on('wantTrailers', () => (trailers ? stream.sendTrailers(trailers) : stream.close()));
    stream.end(body);
  };

const refused = (code: Code, text: RegExp) => (error: unknown) => {
  assert.ok(error instanceof ConnectError, String(error));
  assert.equal(Code[error.code], Code[code]);
  assert.match(error.message, text);
  return true;
};

test('an answer of many frames is one message, with bytes that are no Buffer', async () => {
  const { kvs } = await asked(answerWith(frame, { 'grpc-status': '0' }));
  assert.deepEqual(kvs[0]!.value, new Uint8Array(100_000).fill(7));
});

test('a refusal has the code and the words of the server, with or without a body', async () => {
  const status = { 'grpc-status': '7', 'grpc-message': 'permission%20denied: 100%' };
  await assert.rejects(
    asked(answerWith(Buffer.alloc(0), { ...status, 'grpc-message': 'etcdserver: permission%20denied' })),
    refused(Code.PermissionDenied, /etcdserver: permission denied/),
  );
  const alone: Answer = stream => stream.respond({ ':status': 200, ...status }, { endStream: true });
  await assert.rejects(asked(alone), refused(Code.PermissionDenied, /permission%20denied: 100%/));
});

test('what is no answer is a failure: no status, no message, another protocol, a stream that is broken off', async () => {
  await assert.rejects(asked(answerWith(frame, undefined)), refused(Code.Unavailable, /without a status/));
  const ok = { 'grpc-status': '0' };
  await assert.rejects(asked(answerWith(Buffer.alloc(0), ok)), refused(Code.Internal, /is not one message/));
  await assert.rejects(
    asked(answerWith(frame.subarray(0, 1000), ok)),
    refused(Code.Internal, /ends within a message/),
  );
  const page: Answer = stream => stream.respond({ ':status': 502 }, { endStream: true });
  await assert.rejects(asked(page), refused(Code.Unavailable, /found HTTP status 502, expected 200/));
  const broken: Answer = stream => stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
  await assert.rejects(asked(broken), refused(Code.Unavailable, /INTERNAL_ERROR/));
  const gone: Answer = stream => stream.session?.destroy();
  await assert.rejects(asked(gone), refused(Code.Unavailable, /./));
});

test('who waits too long, or does not want to wait any more, is told so', async () => {
  const silent: Answer = () => undefined;
  await assert.rejects(asked(silent, { timeoutMs: 20 }), refused(Code.DeadlineExceeded, /after 20 ms/));
  await assert.rejects(asked(silent, { signal: AbortSignal.timeout(20) }), refused(Code.Canceled, /./));
  await assert.rejects(asked(silent, { signal: AbortSignal.abort() }), refused(Code.Canceled, /./));
});
