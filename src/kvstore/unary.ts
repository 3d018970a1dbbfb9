import type { OutgoingHttpHeaders } from 'node:http2';
import { constants } from 'node:http2';
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import type { Http2Session } from './http2-session.ts';

export interface UnaryOptions {
  readonly signal: AbortSignal | undefined;
  /** Milliseconds; 0: for ever. */
  readonly timeoutMs: number;
}

/** Compressed flag and length of a message (gRPC over HTTP2, "Length-Prefixed-Message"). */
const PREFIX = 5;

/**
 * One question and its answer. Every key that is written and every page that is read is one: connect's own transport,
 * which has streams, web headers and abort signals for each, takes four times as much of the processor as etcd does.
 * @throws ConnectError with the code that etcd gave; Unavailable where the session failed, whose error is its cause
 * Source: gRPC over HTTP2 (grpc/doc/PROTOCOL-HTTP2.md).
 */
export async function unaryCall<I extends DescMessage, O extends DescMessage>(
  session: Pick<Http2Session, 'request'>,
  method: DescMethodUnary<I, O>,
  input: MessageInitShape<I>,
  { signal, timeoutMs }: UnaryOptions,
): Promise<MessageShape<O>> {
  if (signal?.aborted) throw ConnectError.from(signal.reason, Code.Canceled);
  const headers: OutgoingHttpHeaders = {
    'content-type': 'application/grpc+proto',
    te: 'trailers',
    // An etcd that has just started and has no leader yet refuses at once, instead of losing the request for 7 s.
    hasleader: 'true',
    ...(timeoutMs > 0 && { 'grpc-timeout': `${timeoutMs}m` }),
  };
  const stream = await session
    .request('POST', `/${method.parent.typeName}/${method.name}`, headers, {})
    .catch(error => {
      throw ConnectError.from(error, Code.Unavailable);
    });
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const fail = (error: ConnectError): void => {
    reject(error);
    stream.close(constants.NGHTTP2_CANCEL);
  };
  const late = (): void => fail(new ConnectError(`no answer after ${timeoutMs} ms`, Code.DeadlineExceeded));
  const timer = timeoutMs > 0 ? setTimeout(late, timeoutMs) : undefined;
  const onAbort = (): void => fail(ConnectError.from(signal!.reason, Code.Canceled));
  signal?.addEventListener('abort', onAbort, { once: true });
  const chunks: Buffer[] = [];
  let status: Status | undefined;
  stream.on('response', head => {
    if (head[':status'] !== 200)
      fail(new ConnectError(`found HTTP status ${head[':status']}, expected 200`, Code.Unavailable));
    // Without a message the trailers are all there is.
    if ('grpc-status' in head) status = statusOf(head);
  });
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  stream.on('trailers', trailers => {
    status = statusOf(trailers);
  });
  stream.on('error', error => reject(ConnectError.from(error, Code.Unavailable)));
  stream.on('close', () => {
    if (status?.code === 0) resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks));
    else if (status) reject(new ConnectError(status.message, status.code));
    else reject(new ConnectError('the stream ended without a status', Code.Unavailable));
  });
  stream.end(framed(toBinary(method.input, create(method.input, input))));
  try {
    const answer = await promise;
    if (answer.length < PREFIX || answer[0] !== 0 || answer.readUInt32BE(1) !== answer.length - PREFIX)
      throw new ConnectError('the answer is not one message', Code.Internal);
    // Bytes in it are of the class of what they are read from; Buffers are not the equal of other bytes.
    return fromBinary(
      method.output,
      new Uint8Array(answer.buffer, answer.byteOffset + PREFIX, answer.length - PREFIX),
    );
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}

function framed(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(PREFIX + message.length);
  frame[0] = 0;
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, PREFIX);
  return frame;
}

interface Status {
  readonly code: Code | 0;
  readonly message: string;
}

function statusOf(head: Readonly<Record<string, unknown>>): Status {
  const code = Number(head['grpc-status']);
  const text = String(head['grpc-message'] ?? '');
  const known = code === 0 || Code[code] !== undefined;
  return { code: known ? code : Code.Unknown, message: decoded(text) };
}

/** Its escapes are those of a URL; what is none is left as it is. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
