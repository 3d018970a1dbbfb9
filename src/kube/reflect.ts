import * as z from 'zod';
import type { Table } from '../table/table.ts';
import { nextTurn, turnIsOver } from '../table/turn.ts';
import type { KubeClient } from './client.ts';
import { jsonLines } from './json-lines.ts';
import { isExpired, isNotFound, KubeError } from './status.ts';

/** An object that could not become a row; the row it had before, if any, stays. */
export interface BadObject {
  /** `namespace/name` or `name`. */
  readonly object: string;
  readonly error: Error;
}

export interface ReflectOptions<T, Row> {
  /** The collection, e.g. `/api/v1/services`. */
  readonly path: string;
  readonly fieldSelector?: string;
  readonly labelSelector?: string;
  /** What is read of each object; everything else is dropped at once. */
  readonly schema: z.ZodType<T>;
  /** What the schema makes of an object that has nothing unusual, or the object itself; undefined for any other. */
  readonly plain?: (object: unknown) => T | undefined;
  readonly table: Table<Row>;
  /** Pure. Undefined: the object has no row. A throw makes it a bad object. */
  readonly toRow: (object: T) => Row | undefined;
  readonly signal: AbortSignal;
  readonly onBad?: (bad: BadObject) => void;
  /** A list or watch failed and will be tried again in `delay` ms. */
  readonly onError?: (error: Error, delay: number) => void;
  /** Ask for objects' metadata only (apiVersion, kind, metadata): small lists where that is all one needs. */
  readonly metadataOnly?: boolean;
  /** Objects in a page of the list. Default: by their size. */
  readonly pageSize?: number;
  /** Milliseconds without a word on a watch before it is given up; the API server sends bookmarks each minute. */
  readonly silence?: number;
  /** First and largest delay in ms between attempts. */
  readonly backoff?: { readonly first: number; readonly max: number };
}

/** A running reflection, for status pages. */
export interface Reflection {
  readonly path: string;
  /** True while a watch is open: the table is as fresh as the API server is. */
  readonly connected: boolean;
  /** When something (an event, a bookmark, a list) was last heard; ms since the epoch, 0 for never. */
  readonly heard: number;
  readonly resourceVersion: string | undefined;
  /** Why list or watch fails now. */
  readonly failing: Error | undefined;
  readonly bad: ReadonlyMap<string, Error>;
  /** Resolves when the signal has stopped it. */
  readonly done: Promise<void>;
}

const Meta = z.object({
  metadata: z.object({
    name: z.string(),
    namespace: z.string().optional(),
    resourceVersion: z.string(),
  }),
});

const List = z.object({
  metadata: z.object({ resourceVersion: z.string(), continue: z.string().optional() }),
  items: z.array(z.unknown()).nullish(),
});

const WatchEvent = z.object({
  type: z.enum(['ADDED', 'MODIFIED', 'DELETED', 'BOOKMARK', 'ERROR']),
  object: z.unknown(),
});

/**
 * Keeps `table` equal to a collection of the API server: a consistent paged list, then a watch from its
 * resource version. A broken watch resumes where it was; one that cannot (410) lists again and applies the
 * difference. The table is marked synced after the first complete list. Runs until `signal` aborts; a
 * collection that does not exist yet (its CRD is to come) is waited for.
 */
export function reflect<T, Row>(client: KubeClient, options: ReflectOptions<T, Row>): Reflection {
  return new Reflector(client, options);
}

const FIRST_PAGE = 100;
/** Characters of a page: what JSON.parse, which nothing can interrupt, reads in a few milliseconds. */
const PAGE_SIZE = 512 * 1024;

/** How many objects of this size make a page: of small ones many, because each page is a round trip. */
const pageLimit = (objects: number, characters: number): number =>
  objects === 0 ? FIRST_PAGE : Math.min(1000, Math.max(10, Math.floor((PAGE_SIZE * objects) / characters)));

class Reflector<T, Row> implements Reflection {
  readonly path: string;
  connected = false;
  heard = 0;
  resourceVersion: string | undefined;
  failing: Error | undefined;
  readonly bad = new Map<string, Error>();
  readonly done: Promise<void>;
  readonly #client: KubeClient;
  readonly #options: ReflectOptions<T, Row>;
  /** Object → the version seen and the row it became. */
  readonly #seen = new Map<string, { version: string; row: string | undefined }>();

  constructor(client: KubeClient, options: ReflectOptions<T, Row>) {
    this.path = options.path;
    this.#client = client;
    this.#options = options;
    this.done = this.#run();
  }

  async #run(): Promise<void> {
    const { signal, table } = this.#options;
    const { first, max } = this.#options.backoff ?? { first: 100, max: 5000 };
    let failures = 0;
    while (!signal.aborted) {
      const started = performance.now();
      let problem: unknown;
      try {
        if (this.resourceVersion === undefined) {
          this.resourceVersion = await this.#list();
          table.markSynced();
        }
        this.failing = undefined;
        await this.#watch(this.resourceVersion);
      } catch (error) {
        problem = error;
      }
      this.connected = false;
      if (signal.aborted) return;
      // A watch that ran for a while and was closed in order is the normal case: go on at once.
      const lasted = performance.now() - started > 1000;
      if (isExpired(problem)) this.resourceVersion = undefined;
      if (lasted) failures = 0;
      if (lasted && problem === undefined) continue;
      const cap = isNotFound(problem) ? Math.min(max, 500) : max;
      const wanted = problem instanceof KubeError ? (problem.retryAfter ?? 0) : 0;
      const delay = Math.max(wanted, Math.min(cap, first * 2 ** failures++) * (0.5 + Math.random() / 2));
      if (problem !== undefined && !isExpired(problem)) {
        this.failing = problem instanceof Error ? problem : new Error(String(problem));
        this.#options.onError?.(this.failing, delay);
      }
      await pause(delay, signal);
    }
  }

  /** Reads every page, applies what differs from the rows there are, and returns the list's version. */
  async #list(): Promise<string> {
    const present = new Set<string>();
    const fixed = this.#options.pageSize;
    let limit: number | undefined = fixed ?? FIRST_PAGE;
    let next: string | undefined;
    let version: string;
    for (;;) {
      const read = await this.#page(limit, next).catch((error: unknown) => {
        if (isExpired(error) && next !== undefined) return undefined;
        throw error;
      });
      if (!read) {
        // The rest of a paged list was compacted away under us; one list in a single piece cannot be.
        present.clear();
        limit = next = undefined;
        continue;
      }
      const { answer: page, size } = read;
      if (limit !== undefined && fixed === undefined) limit = pageLimit(page.items?.length ?? 0, size);
      this.heard = Date.now();
      version = page.metadata.resourceVersion;
      for (const item of page.items ?? []) {
        const key = this.#take(item);
        if (key !== undefined) present.add(key);
        if (turnIsOver()) await nextTurn();
      }
      next = page.metadata.continue || undefined;
      if (next === undefined) break;
    }
    for (const key of [...this.#seen.keys(), ...this.bad.keys()]) if (!present.has(key)) this.#drop(key);
    return version;
  }

  #page(
    limit: number | undefined,
    next: string | undefined,
  ): Promise<{ readonly answer: z.infer<typeof List>; readonly size: number }> {
    const { signal } = this.#options;
    const query = { ...this.#selectors(), limit, continue: next };
    return this.#client.getSized(this.path, List, {
      query,
      signal,
      timeout: 60_000,
      ...this.#accept('PartialObjectMetadataList'),
    });
  }

  /** Follows changes until the stream ends; rejects with what broke it. */
  async #watch(from: string): Promise<void> {
    const silence = this.#options.silence ?? 150_000;
    const stream = await this.#client.stream(this.path, {
      query: {
        ...this.#selectors(),
        watch: true,
        allowWatchBookmarks: true,
        resourceVersion: from,
        // Spread, so that the watches of a whole cluster do not end together.
        timeoutSeconds: Math.round(300 + Math.random() * 300),
      },
      signal: this.#options.signal,
      ...this.#accept('PartialObjectMetadata'),
    });
    this.connected = true;
    this.heard = Date.now();
    return new Promise((resolve, reject) => {
      const fail = (error: Error): void => {
        reject(error);
        stream.destroy();
      };
      const timer = setInterval(() => {
        const quiet = Date.now() - this.heard;
        if (quiet > silence) fail(new Error(`watch ${this.path}: nothing heard for ${quiet} ms`));
      }, silence / 4).unref();
      const lines = jsonLines(value => this.#event(value));
      stream.on('data', (chunk: Buffer) => {
        this.heard = Date.now();
        try {
          lines(chunk);
        } catch (error) {
          fail(error instanceof Error ? error : new Error(String(error)));
          return;
        }
        // The socket would give all it has, up to 2 MiB, before anybody else is heard.
        if (!turnIsOver()) return;
        stream.pause();
        void nextTurn().then(() => stream.resume());
      });
      stream.on('error', error =>
        reject(new Error(`watch ${this.path}: ${error.message}`, { cause: error })),
      );
      stream.on('close', () => {
        clearInterval(timer);
        resolve();
      });
    });
  }

  #event(value: unknown): void {
    const event = WatchEvent.parse(value);
    if (event.type === 'ERROR')
      throw new KubeError(`watch ${this.path}`, statusCode(event.object), event.object);
    if (event.type === 'BOOKMARK') {
      const version = Bookmark.safeParse(event.object).data?.metadata.resourceVersion;
      if (version) this.resourceVersion = version;
      return;
    }
    const meta = Meta.safeParse(event.object).data?.metadata;
    if (!meta) {
      this.#report('(without a name)', new Error('metadata.name or resourceVersion is missing'));
      return;
    }
    if (event.type === 'DELETED') this.#drop(objectKey(meta));
    else this.#take(event.object);
    this.resourceVersion = meta.resourceVersion;
  }

  /** Turns one object into its row; returns its key, or undefined when it has not even a name. */
  #take(object: unknown): string | undefined {
    const meta = Meta.safeParse(object).data?.metadata;
    if (!meta) {
      this.#report('(without a name)', new Error('metadata.name or resourceVersion is missing'));
      return undefined;
    }
    const key = objectKey(meta);
    const before = this.#seen.get(key);
    if (before?.version === meta.resourceVersion) return key;
    const { toRow, table } = this.#options;
    let row: Row | undefined;
    try {
      row = toRow(this.#parse(object));
    } catch (error) {
      this.#report(key, error instanceof Error ? error : new Error(String(error)));
      return key;
    }
    this.bad.delete(key);
    const rowKey = row === undefined ? undefined : table.keyOf(row);
    if (before?.row !== undefined && before.row !== rowKey) table.delete(before.row);
    this.#seen.set(key, { version: meta.resourceVersion, row: rowKey });
    if (row !== undefined) table.upsert(row);
    return key;
  }

  /** @throws Error that says of each bad field what is wrong */
  #parse(object: unknown): T {
    const { schema, plain } = this.#options;
    const found = plain?.(object);
    if (found !== undefined) return found;
    const parsed = schema.safeParse(object);
    if (!parsed.success) throw new Error(problemsOf(parsed.error, object));
    return parsed.data;
  }

  #drop(key: string): void {
    const row = this.#seen.get(key)?.row;
    this.#seen.delete(key);
    this.bad.delete(key);
    if (row !== undefined) this.#options.table.delete(row);
  }

  #report(object: string, error: Error): void {
    this.bad.set(object, error);
    this.#options.onBad?.({ object, error });
  }

  #selectors(): { fieldSelector: string | undefined; labelSelector: string | undefined } {
    return { fieldSelector: this.#options.fieldSelector, labelSelector: this.#options.labelSelector };
  }

  #accept(kind: 'PartialObjectMetadataList' | 'PartialObjectMetadata'): { accept?: string } {
    if (!this.#options.metadataOnly) return {};
    return { accept: `application/json;as=${kind};g=meta.k8s.io;v=v1,application/json` };
  }
}

const Bookmark = z.object({ metadata: z.object({ resourceVersion: z.string() }) });

function statusCode(object: unknown): number {
  return z.object({ code: z.number() }).safeParse(object).data?.code ?? 500;
}

function objectKey(meta: { name: string; namespace?: string | undefined }): string {
  return meta.namespace ? `${meta.namespace}/${meta.name}` : meta.name;
}

/** Says of each bad field where it is, what was expected and what was found. */
function problemsOf(error: z.ZodError, object: unknown): string {
  return error.issues
    .map(issue => {
      let found: unknown = object;
      for (const step of issue.path) found = (found as Record<PropertyKey, unknown> | undefined)?.[step];
      const shown = found === undefined ? 'nothing' : JSON.stringify(found).slice(0, 80);
      return `${issue.path.join('.')}: ${issue.message}, found ${shown}`;
    })
    .join('; ');
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener('abort', end);
  });
}
