import { readFileSync } from 'node:fs';
import type tls from 'node:tls';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { type Client, Code, ConnectError, createClient, type Transport } from '@connectrpc/connect';
import { ask, askAs, askOnce, only } from './ask.ts';
import { type Endpoint, formatEndpoint } from './endpoint.ts';
import { EtcdFailure } from './failure.ts';
import {
  Auth,
  KV,
  Lease,
  Maintenance,
  type RangeRequestSchema,
  type ResponseHeader,
} from './gen/etcd/api/etcdserverpb/rpc_pb.js';
import { Http2Session } from './http2-session.ts';
import type { KeyRange } from './range.ts';
import { RangePage } from './range-page.ts';
import { type Watch, WatchStream } from './watch-stream.ts';
import { Writes } from './writes.ts';

/** Files of a mutual TLS client; read anew for every connection, so that rotation needs no restart. */
export interface TlsFiles {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export interface ConnectionOptions {
  readonly tls: TlsFiles;
  /** Milliseconds for TCP, TLS and the HTTP/2 preface of one endpoint. Default 3000. */
  readonly dialTimeout?: number;
  /**
   * Milliseconds between pings of a connection with open streams. Default 6000: an etcd server refuses
   * clients that ping more often than every 5 s unless told otherwise.
   */
  readonly pingInterval?: number;
  /** Milliseconds without an answer to a ping until the connection counts as dead. Default 3000. */
  readonly pingTimeout?: number;
  /** Milliseconds for one request that is not a stream. Default 10000. */
  readonly requestTimeout?: number;
}

/**
 * One HTTP/2 connection to one etcd endpoint. It never reconnects: when it is lost, `lost` aborts and all
 * calls fail; who needs etcd dials anew (session.ts). The etcd cluster ID of the first response is pinned:
 * a response with another one, or with none, ends the connection, since revisions of two etcds are unrelated.
 */
export class EtcdConnection implements Disposable {
  readonly endpoint: Endpoint;
  readonly kv: Client<typeof KV>;
  readonly lease: Client<typeof Lease>;
  readonly auth: Client<typeof Auth>;
  readonly maintenance: Client<typeof Maintenance>;
  readonly writes: Writes;
  readonly #lost = new AbortController();
  readonly #session: Http2Session;
  readonly #requestTimeout: number;
  readonly #watches: WatchStream;
  #clusterId: bigint | undefined;

  /** @internal use {@link dialEndpoint} */
  constructor(endpoint: Endpoint, session: Http2Session, requestTimeout: number) {
    this.endpoint = endpoint;
    this.#session = session;
    this.#requestTimeout = requestTimeout;
    this.#watches = new WatchStream(session, header => this.check(header));
    const transport: Transport = {
      unary: async (method, signal, timeoutMs = requestTimeout, _header, input) => {
        this.lost.throwIfAborted();
        const message = await askOnce(session, method, input, { signal, timeoutMs });
        // To this one etcd gives no header.
        const headless = method.name === Maintenance.method.defragment.name;
        if (!headless) this.check(headerOf(message));
        return { stream: false, service: method.parent, method, message, ...withoutHeaders };
      },
      stream: async ({ name }) => {
        throw new ConnectError(`${name}: there are methods of their own for streams`, Code.Unimplemented);
      },
    };
    this.kv = createClient(KV, transport);
    this.writes = new Writes(this.kv);
    this.lease = createClient(Lease, transport);
    this.auth = createClient(Auth, transport);
    this.maintenance = createClient(Maintenance, transport);
    const { ended } = session;
    ended.addEventListener('abort', () =>
      this.close(
        new EtcdFailure('tcp', `connection to ${formatEndpoint(endpoint)} lost: ${messageOf(ended.reason)}`),
      ),
    );
  }

  /** Aborts when the connection ends; the reason says why. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Where its packets go: of a node, a load balancer, a pod; '' once it has ended. */
  get peerAddress(): string {
    return this.#session.peerAddress;
  }

  /** SHA-256 of the certificate the server showed. */
  get peerCertificate(): string {
    return this.#session.peerCertificate;
  }

  /** Identity of the etcd at the other end; undefined before its first response. */
  get clusterId(): bigint | undefined {
    return this.#clusterId;
  }

  /** `kv.range`, of which the answer is read as it is gone through: for lists. @throws ConnectError */
  async range(
    question: MessageInitShape<typeof RangeRequestSchema>,
    signal?: AbortSignal,
  ): Promise<RangePage> {
    this.lost.throwIfAborted();
    const options = { signal, timeoutMs: this.#requestTimeout };
    const read = (message: Uint8Array): RangePage => new RangePage(message);
    const page = only(await askAs(this.#session, KV.method.range, [question], options, read));
    this.check(page.header);
    return page;
  }

  /** Watches a range of keys from a revision on. @throws ConnectError where the connection has ended */
  watch(range: KeyRange, startRevision: bigint): Watch {
    return this.#watches.open(range, startRevision);
  }

  /** Renews leases. Resolves to those that etcd still has. */
  async keepAlive(leases: readonly bigint[], signal: AbortSignal): Promise<ReadonlySet<bigint>> {
    const questions = leases.map(ID => ({ ID }));
    const options = { signal, timeoutMs: 10_000 };
    const answers = await ask(this.#session, Lease.method.leaseKeepAlive, questions, options);
    for (const { header } of answers) this.check(header);
    return new Set(answers.filter(({ TTL }) => TTL > 0n).map(({ ID }) => ID));
  }

  /** Holds a response's header to the pinned etcd. @throws EtcdFailure after closing the connection */
  check(header: Pick<ResponseHeader, 'clusterId'> | undefined): void {
    const found = header?.clusterId;
    if (found !== undefined && (this.#clusterId === undefined || this.#clusterId === found)) {
      this.#clusterId = found;
      return;
    }
    const failure = new EtcdFailure(
      'etcd',
      found === undefined
        ? `${formatEndpoint(this.endpoint)} sent a response without a header`
        : `${formatEndpoint(this.endpoint)} is another etcd now: found cluster ID ${found.toString(16)}, ` +
            `expected ${this.#clusterId?.toString(16)}`,
    );
    this.close(failure);
    throw failure;
  }

  close(reason: Error = new EtcdFailure('etcd', 'connection closed')): void {
    if (this.#lost.signal.aborted) return;
    this.#lost.abort(reason);
    this.#session.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Nobody asks what came with an answer. */
const withoutHeaders = { header: new Headers(), trailer: new Headers() };

/** Connects to one endpoint over mutual TLS. @throws Error with the reason (failure.ts names its layer) */
export async function dialEndpoint(endpoint: Endpoint, options: ConnectionOptions): Promise<EtcdConnection> {
  const session = await Http2Session.connect({
    authority: `https://${formatEndpoint(endpoint)}`,
    tls: tlsOptions(endpoint, options.tls),
    dialTimeout: options.dialTimeout ?? 3000,
    pingInterval: options.pingInterval ?? 6000,
    pingTimeout: options.pingTimeout ?? 3000,
  });
  return new EtcdConnection(endpoint, session, options.requestTimeout ?? 10_000);
}

function tlsOptions(endpoint: Endpoint, files: TlsFiles): tls.ConnectionOptions {
  return {
    host: endpoint.host,
    port: endpoint.port,
    ...(endpoint.serverName === undefined ? {} : { servername: endpoint.serverName }),
    ca: readFileSync(files.ca),
    cert: readFileSync(files.cert),
    key: readFileSync(files.key),
    minVersion: 'TLSv1.2',
  };
}

function headerOf(message: object): ResponseHeader | undefined {
  return 'header' in message ? (message.header as ResponseHeader | undefined) : undefined;
}

function messageOf(reason: unknown): string {
  return reason instanceof Error ? reason.message : String(reason);
}
