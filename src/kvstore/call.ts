import type { ClientHttp2Stream, OutgoingHttpHeaders } from 'node:http2';
import { constants } from 'node:http2';
import {
  create,
  type DescMessage,
  type DescMethod,
  type MessageInitShape,
  toBinary,
} from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import type { Http2Session } from './http2-session.ts';

/** What a call needs of the session that carries it. */
export type Carrier = Pick<Http2Session, 'request' | 'heard'>;

export interface CallEvents {
  /** A whole message came: bytes that are no Buffer, and part of what was read at once. Must not throw. */
  readonly onMessage: (message: Uint8Array) => void;
  /**
   * The call is over, once; nothing comes after it. Without an error the server has said all that it had to say. The error
   * has the code that etcd gave; Unavailable where the session failed, whose error is its cause.
   */
  readonly onEnd: (error: ConnectError | undefined) => void;
}

/** Compressed flag and length of a message (gRPC over HTTP2, "Length-Prefixed-Message"). */
const PREFIX = 5;

/**
 * A call of a method: messages there and back on an HTTP/2 stream of its own. Whatever etcd is asked, and whatever it tells,
 * passes here: the transport of a library, which makes web streams, headers and abort signals of it, takes several times as
 * much of the processor and 30 KiB for each stream that stays open.
 * Source: gRPC over HTTP2 (grpc/doc/PROTOCOL-HTTP2.md).
 */
export class Call<I extends DescMessage> {
  readonly #input: I;
  readonly #stream: ClientHttp2Stream;
  readonly #events: CallEvents;
  #status: Status | undefined;
  #isOver = false;
  /** What came of messages that are not whole, and the bytes that it takes for the next one. */
  #held: Buffer[] = [];
  #size = 0;
  #wanted = PREFIX;

  /** `timeoutMs` is told to the server; 0: it may take for ever. @throws ConnectError where the session has ended */
  constructor(session: Carrier, method: DescMethod & { input: I }, timeoutMs: number, events: CallEvents) {
    const headers: OutgoingHttpHeaders = {
      'content-type': 'application/grpc+proto',
      te: 'trailers',
      // An etcd that has just started and has no leader yet refuses at once, instead of losing the request for 7 s.
      hasleader: 'true',
      ...(timeoutMs > 0 && { 'grpc-timeout': `${timeoutMs}m` }),
    };
    this.#input = method.input;
    this.#events = events;
    try {
      this.#stream = session.request(`/${method.parent.typeName}/${method.name}`, headers);
    } catch (error) {
      throw ConnectError.from(error, Code.Unavailable);
    }
    this.#stream.on('response', head => {
      session.heard();
      if (head[':status'] !== 200)
        this.cancel(new ConnectError(`found HTTP status ${head[':status']}, expected 200`, Code.Unavailable));
      // Without a message the trailers are all there is.
      if ('grpc-status' in head) this.#status = statusOf(head);
    });
    this.#stream.on('data', (chunk: Buffer) => {
      session.heard();
      this.#take(chunk);
    });
    this.#stream.on('trailers', trailers => {
      this.#status = statusOf(trailers);
    });
    this.#stream.on('error', error => this.#end(ConnectError.from(error, Code.Unavailable)));
    this.#stream.on('close', () => this.#end(this.#failure()));
  }

  /** Sends a message, the last one of ours if it says so. */
  send(message: MessageInitShape<I>, last = false): void {
    if (this.#isOver) return;
    const frame = framed(toBinary(this.#input, create(this.#input, message)));
    if (last) this.#stream.end(frame);
    else this.#stream.write(frame);
  }

  /** Ends it from our side; `onEnd` is told the reason at once. */
  cancel(reason: ConnectError): void {
    this.#end(reason);
    this.#stream.close(constants.NGHTTP2_CANCEL);
  }

  #end(error: ConnectError | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#events.onEnd(error);
  }

  #failure(): ConnectError | undefined {
    if (!this.#status) return new ConnectError('the stream ended without a status', Code.Unavailable);
    const { code, message } = this.#status;
    if (code !== 0) return new ConnectError(message, code);
    return this.#size === 0 ? undefined : brokenMessage();
  }

  /** Hands on the messages that are whole with this chunk: most chunks are one. */
  #take(chunk: Buffer): void {
    this.#held.push(chunk);
    this.#size += chunk.length;
    if (this.#size < this.#wanted) return;
    const bytes = this.#held.length === 1 ? chunk : Buffer.concat(this.#held, this.#size);
    let at = 0;
    this.#wanted = PREFIX;
    while (!this.#isOver && at + PREFIX <= bytes.length) {
      if (bytes[at] !== 0) {
        this.cancel(brokenMessage());
        return;
      }
      const from = at + PREFIX;
      const length = bytes.readUInt32BE(at + 1);
      if (from + length > bytes.length) {
        this.#wanted = PREFIX + length;
        break;
      }
      at = from + length;
      // Bytes in it are of the class of what they are read from; Buffers are not the equal of other bytes.
      this.#events.onMessage(new Uint8Array(bytes.buffer, bytes.byteOffset + from, length));
    }
    this.#size = bytes.length - at;
    this.#held = this.#size === 0 ? [] : [bytes.subarray(at)];
  }
}

const brokenMessage = (): ConnectError =>
  new ConnectError('the answer ends within a message, or is compressed', Code.Internal);

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
