import { setMaxListeners } from 'node:events';
import { nextTurn, turnIsOver } from '../table/turn.ts';
import { type ConnectionOptions, dialEndpoint, type EtcdConnection } from './connection.ts';
import { type Endpoint, formatEndpoint } from './endpoint.ts';
import { describeFailure, EtcdFailure, type Failure } from './failure.ts';

export interface SessionOptions extends ConnectionOptions {
  /** Called before each attempt, so that a changed configuration is followed. */
  readonly endpoints: () => readonly Endpoint[];
  /** First and largest delay in milliseconds between attempts; doubles between, with jitter. Default 100, 2000. */
  readonly backoff?: { readonly first: number; readonly max: number };
  /** Milliseconds after which the next endpoint is tried beside one that has not answered. Default 300. */
  readonly stagger?: number;
  readonly onConnected?: (connection: EtcdConnection) => void;
  /** The connection was lost, could not be made, or `body` failed. */
  readonly onFailure?: (failure: Failure, attempt: number) => void;
}

/**
 * Keeps `body` running with a live connection until `signal` aborts: connects (endpoints shuffled, the one
 * that failed last at the end), runs `body`, and when that throws or the connection is lost starts again on
 * another endpoint. The signal given to `body` aborts with its connection.
 */
export async function keepSession(
  options: SessionOptions,
  signal: AbortSignal,
  body: (connection: EtcdConnection, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const { first, max } = options.backoff ?? { first: 100, max: 2000 };
  let attempt = 0;
  let avoid: string | undefined;
  while (!signal.aborted) {
    let connection: EtcdConnection | undefined;
    try {
      // Of hundreds of clusters that are connected at once: each reads its files and begins a TLS session.
      while (turnIsOver()) await nextTurn();
      connection = await dial(options.endpoints(), options, signal, avoid);
      const { lost } = connection;
      const startedAt = performance.now();
      options.onConnected?.(connection);
      try {
        const running = AbortSignal.any([signal, lost]);
        setMaxListeners(0, running);
        // Whatever still waits for an answer ends with the session.
        running.addEventListener('abort', () => connection?.close(), { once: true });
        await body(connection, running);
        lost.throwIfAborted();
      } finally {
        if (performance.now() - startedAt > max) attempt = 0;
      }
      if (!signal.aborted) throw new EtcdFailure('etcd', 'session ended');
    } catch (error) {
      if (signal.aborted) return;
      avoid = connection && formatEndpoint(connection.endpoint);
      options.onFailure?.(
        describeFailure(connection?.lost.aborted ? connection.lost.reason : error),
        ++attempt,
      );
    } finally {
      connection?.close();
    }
    await pause(Math.min(max, first * 2 ** Math.min(attempt - 1, 16)) * (0.5 + Math.random()), signal);
  }
}

/**
 * The first endpoint to answer, tried in random order, each a moment after the one before.
 * @throws EtcdFailure naming each endpoint and why it failed
 */
export async function dial(
  endpoints: readonly Endpoint[],
  options: ConnectionOptions & { readonly stagger?: number },
  signal: AbortSignal,
  avoid?: string,
): Promise<EtcdConnection> {
  if (!endpoints.length) throw new EtcdFailure('files', 'no endpoints are configured');
  const order = shuffle(endpoints, avoid);
  const failures: string[] = [];
  const { promise, resolve, reject } = Promise.withResolvers<EtcdConnection>();
  let settled = false;
  let running = 0;
  let layer: Failure['layer'] = 'tcp';
  let timer: NodeJS.Timeout | undefined;

  const next = (): void => {
    clearTimeout(timer);
    const endpoint = order.shift();
    if (settled || !endpoint) {
      if (!settled && !running) reject(new EtcdFailure(layer, failures.join('; ')));
      return;
    }
    running++;
    if (order.length) timer = setTimeout(next, options.stagger ?? 300);
    dialEndpoint(endpoint, options).then(
      connection => {
        running--;
        if (settled) connection.close();
        else resolve(connection);
        settled = true;
      },
      error => {
        running--;
        const failure = describeFailure(error);
        layer = failure.layer;
        failures.push(`${formatEndpoint(endpoint)}: ${failure.message}`);
        next();
      },
    );
  };
  const stop = (): void => {
    settled = true;
    reject(signal.reason);
  };
  signal.addEventListener('abort', stop, { once: true });
  try {
    next();
    return await promise;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
  }
}

/** Resolves after `milliseconds`, or at once when `signal` aborts. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) return resolve();
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener('abort', done, { once: true });
  });
}

function shuffle(endpoints: readonly Endpoint[], last: string | undefined): Endpoint[] {
  const keyed = endpoints.map(endpoint => ({
    endpoint,
    at: formatEndpoint(endpoint) === last ? 2 : Math.random(),
  }));
  return keyed.sort((a, b) => a.at - b.at).map(each => each.endpoint);
}
