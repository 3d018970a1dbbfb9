import { setMaxListeners } from 'node:events';
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { ZodType } from 'zod';
import { timedOut } from '../failure.ts';
import { type ClusterAccess, type InClusterOptions, inClusterAccess, type TlsMaterial } from './access.ts';
import { type KubeconfigOptions, kubeconfigAccess } from './kubeconfig.ts';
import { KubeError } from './status.ts';

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

export interface RequestOptions {
  readonly query?: Query | undefined;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly accept?: string;
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds until an answer must be complete (for `stream`: until its head has come). */
  readonly timeout?: number;
}

export interface ClientOptions {
  /** Names the daemon in the API server's audit log and as default field manager. */
  readonly component: string;
  readonly version?: string;
}

/** A client with the pod's service account. */
export function kubeInCluster(options: ClientOptions & InClusterOptions): KubeClient {
  return new KubeClient(inClusterAccess(options), options);
}

/** A client by a kubeconfig file: $KUBECONFIG, ~/.kube/config or the one named. */
export function kubeFromConfig(options: ClientOptions & KubeconfigOptions): KubeClient {
  return new KubeClient(kubeconfigAccess(options), options);
}

/** Connections of one set of credentials. Watches hold theirs for minutes, so requests have their own. */
interface Pools {
  readonly tls: TlsMaterial;
  readonly requests: HttpAgent | HttpsAgent;
  readonly streams: HttpAgent | HttpsAgent;
}

/** Requests under way at once; more wait. A burst of writes must not become a burst of TLS handshakes. */
const maxRequests = 8;

/** Milliseconds for a TCP connection to be made: three SYNs. */
const connectTimeout = 5000;

/** How a PATCH's body is meant. Server-side apply takes JSON, which is YAML. */
const patchTypes = {
  apply: 'application/apply-patch+yaml',
  merge: 'application/merge-patch+json',
  json: 'application/json-patch+json',
  strategic: 'application/strategic-merge-patch+json',
} as const;
export type PatchType = keyof typeof patchTypes;

/**
 * A small Kubernetes client: one request per call over kept connections. Answers outside 2xx throw
 * `KubeError`; a broken or silent connection throws a plain Error that names the request.
 */
export class KubeClient {
  readonly component: string;
  readonly server: URL;
  readonly #access: ClusterAccess;
  readonly #userAgent: string;
  #pools: Pools | undefined;

  constructor(access: ClusterAccess, options: ClientOptions) {
    this.component = options.component;
    this.server = access.server;
    this.#access = access;
    this.#userAgent = `${options.component}/${options.version ?? 'dev'} (linux/${process.arch})`;
  }

  /** One request; with a schema the answer is parsed by it, and a mismatch names object and field. */
  async request<T>(
    method: Method,
    path: string,
    options: RequestOptions & { schema: ZodType<T> },
  ): Promise<T>;
  async request(method: Method, path: string, options?: RequestOptions): Promise<unknown>;
  async request(
    method: Method,
    path: string,
    options: RequestOptions & { schema?: ZodType } = {},
  ): Promise<unknown> {
    const text = await this.#text(method, path, options);
    return parseAnswer(`${method} ${path}`, text, options.schema);
  }

  /** A GET, with the number of characters that the answer had. */
  async getSized<T>(
    path: string,
    schema: ZodType<T>,
    options: RequestOptions = {},
  ): Promise<{ readonly answer: T; readonly size: number }> {
    const text = await this.#text('GET', path, options);
    return { answer: parseAnswer(`GET ${path}`, text, schema), size: text.length };
  }

  get<T>(path: string, schema: ZodType<T>, options: RequestOptions = {}): Promise<T> {
    return this.request('GET', path, { ...options, schema });
  }

  /** POST of an object to its collection. */
  create(path: string, object: object, options: RequestOptions = {}): Promise<unknown> {
    return this.request('POST', path, { ...options, body: object });
  }

  patch(path: string, type: PatchType, body: unknown, options: RequestOptions = {}): Promise<unknown> {
    return this.request('PATCH', path, { ...options, body, contentType: patchTypes[type] });
  }

  /**
   * Server-side apply: the object becomes as given in the fields given, created when missing. For a
   * subresource append e.g. `/status` to the path. Takes fields over from other managers unless `force` is false.
   */
  apply(
    path: string,
    object: object,
    options: RequestOptions & { force?: boolean; fieldManager?: string } = {},
  ) {
    const { force = true, fieldManager = this.component, ...rest } = options;
    return this.patch(path, 'apply', object, { ...rest, query: { ...rest.query, fieldManager, force } });
  }

  /** DELETE; true when it was there. `preconditions` guard against deleting a successor of the same name. */
  async delete(
    path: string,
    options: RequestOptions & { preconditions?: { uid?: string; resourceVersion?: string } } = {},
  ): Promise<boolean> {
    const { preconditions, ...rest } = options;
    try {
      const body = {
        kind: 'DeleteOptions',
        apiVersion: 'v1',
        propagationPolicy: 'Background',
        preconditions,
      };
      await this.request('DELETE', path, { ...rest, body });
      return true;
    } catch (error) {
      if (error instanceof KubeError && error.code === 404) return false;
      throw error;
    }
  }

  /** The body of a GET as it comes, for watches and logs. Destroy the message to stop. */
  async stream(path: string, options: RequestOptions = {}): Promise<IncomingMessage> {
    const message = await this.#send('GET', path, options, 'streams');
    if (message.statusCode === 200) return message;
    throw refusal(`GET ${path}`, message, await read(message));
  }

  /** Closes kept connections. Requests after it open new ones. */
  close(): void {
    this.#pools?.requests.destroy();
    this.#pools?.streams.destroy();
    this.#pools = undefined;
  }

  async #text(method: Method, path: string, options: RequestOptions): Promise<string> {
    const timeout = options.timeout ?? 30_000;
    const message = await this.#send(method, path, { ...options, timeout }, 'requests');
    const timer = setTimeout(
      () => message.destroy(timedOut(`${method} ${path}: answer not complete after ${timeout} ms`)),
      timeout,
    );
    try {
      const text = await read(message);
      const code = message.statusCode ?? 0;
      if (code >= 200 && code < 300) return text;
      throw refusal(`${method} ${path}`, message, text);
    } finally {
      clearTimeout(timer);
    }
  }

  async #send(
    method: Method,
    path: string,
    options: RequestOptions,
    pool: 'requests' | 'streams',
  ): Promise<IncomingMessage> {
    const { tls, token } = await this.#access.credentials();
    const agent = this.#poolsFor(tls)[pool];
    const body = options.body === undefined ? undefined : Buffer.from(JSON.stringify(options.body));
    const headers: Record<string, string | number> = {
      accept: options.accept ?? 'application/json',
      'user-agent': this.#userAgent,
      ...(token ? { authorization: `Bearer ${token}` } : {}),
      ...(body
        ? { 'content-type': options.contentType ?? 'application/json', 'content-length': body.length }
        : {}),
    };
    const url = new URL(path + queryText(options.query), this.server);
    const attempt = (mayRetry: boolean): Promise<IncomingMessage> =>
      new Promise((resolve, reject) => {
        const open = url.protocol === 'http:' ? httpRequest : httpsRequest;
        const { signal } = options;
        if (signal) setMaxListeners(0, signal);
        const request = open(url, { method, headers, agent, ...(signal ? { signal } : {}) });
        const timeout = options.timeout ?? 30_000;
        const timer = setTimeout(() => {
          request.destroy(timedOut(`no answer after ${timeout} ms`));
        }, timeout);
        request.on('socket', socket => {
          // A peer that vanished without a word is noticed after 10 s of silence and 10 unanswered probes a second apart.
          socket.setKeepAlive(true, 10_000);
          socket.setNoDelay(true);
          if (!socket.connecting) return;
          // The kernel would try for minutes, ever more rarely: after a cut is healed we want to be back in seconds.
          const connect = setTimeout(() => {
            request.destroy(timedOut(`no connection after ${connectTimeout} ms`));
          }, connectTimeout);
          socket.once('connect', () => clearTimeout(connect)).once('close', () => clearTimeout(connect));
        });
        request.on('response', message => {
          clearTimeout(timer);
          resolve(message);
        });
        request.on('error', error => {
          clearTimeout(timer);
          // A kept connection the server closed meanwhile: nobody has seen the request. POST is not repeated, to be sure.
          const stale = request.reusedSocket && (error as NodeJS.ErrnoException).code === 'ECONNRESET';
          if (stale && mayRetry && method !== 'POST') attempt(false).then(resolve, reject);
          else if (signal?.aborted) reject(error);
          else
            reject(new Error(`${method} ${url.origin}${path}: ${error.message || error}`, { cause: error }));
        });
        request.end(body);
      });
    return attempt(true);
  }

  #poolsFor(tls: TlsMaterial): Pools {
    if (this.#pools?.tls === tls) return this.#pools;
    // Connections in use with the old material finish by themselves; only idle ones are closed.
    for (const old of [this.#pools?.requests, this.#pools?.streams])
      for (const sockets of Object.values(old?.freeSockets ?? {}))
        for (const each of sockets ?? []) each.destroy();
    const { insecure, ...material } = tls;
    const pool = (maxSockets: number): HttpAgent | HttpsAgent => {
      const kept = { keepAlive: true, scheduling: 'lifo', maxFreeSockets: 2, maxSockets } as const;
      return this.server.protocol === 'http:'
        ? new HttpAgent(kept)
        : new HttpsAgent({ ...kept, ...material, rejectUnauthorized: !insecure });
    };
    this.#pools = { tls, requests: pool(maxRequests), streams: pool(Number.POSITIVE_INFINITY) };
    return this.#pools;
  }
}

function parseAnswer<T>(request: string, text: string, schema: ZodType<T>): T;
function parseAnswer(request: string, text: string, schema: ZodType | undefined): unknown;
function parseAnswer(request: string, text: string, schema: ZodType | undefined): unknown {
  const answer: unknown = text === '' ? undefined : JSON.parse(text);
  if (!schema) return answer;
  const parsed = schema.safeParse(answer);
  if (parsed.success) return parsed.data;
  const fields = parsed.error.issues.map(each => `${each.path.join('.')}: ${each.message}`);
  throw new Error(`${request}: unexpected answer: ${fields.join('; ')}`);
}

function queryText(query: Query = {}): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query))
    if (value !== undefined) parameters.set(name, String(value));
  return parameters.size ? `?${parameters}` : '';
}

async function read(message: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of message as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}

function refusal(request: string, message: IncomingMessage, text: string): KubeError {
  const after = Number(message.headers['retry-after']);
  let body: unknown = text;
  try {
    body = JSON.parse(text);
  } catch {
    // Proxies and early start-up answer with plain text: it is the message then.
  }
  return new KubeError(request, message.statusCode ?? 0, body, after > 0 ? after : undefined);
}
