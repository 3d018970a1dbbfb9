import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import * as z from 'zod';
import { type Change, Table } from '../table/table.ts';
import { KubeClient } from './client.ts';
import { type ReflectOptions, reflect } from './reflect.ts';

const Thing = z.object({ metadata: z.object({ name: z.string() }), spec: z.object({ size: z.number() }) });
type Row = { name: string; size: number };

function thing(name: string, version: number, size: unknown): object {
  return { metadata: { name, resourceVersion: String(version) }, spec: { size } };
}

/** What the server answers to the next list and watch; a test changes it as it goes. */
class Collection {
  items: object[] = [];
  version = 1;
  lists = 0;
  watches: { query: URLSearchParams; response: ServerResponse }[] = [];
  onList: ((query: URLSearchParams, response: ServerResponse) => boolean) | undefined;
  onWatch: ((query: URLSearchParams, response: ServerResponse) => boolean) | undefined;
  #waiting: { count: number; resolve: () => void }[] = [];

  handle(request: IncomingMessage, response: ServerResponse): void {
    const query = new URL(request.url ?? '', 'http://localhost').searchParams;
    if (query.has('watch')) {
      if (this.onWatch?.(query, response)) return;
      response.writeHead(200).flushHeaders();
      this.watches.push({ query, response });
      for (const each of this.#waiting) if (each.count <= this.watches.length) each.resolve();
      return;
    }
    this.lists++;
    if (this.onList?.(query, response)) return;
    const limit = Number(query.get('limit') ?? 1e9);
    const from = Number(query.get('continue') ?? 0);
    const next = from + limit < this.items.length ? String(from + limit) : undefined;
    const body = {
      metadata: { resourceVersion: String(this.version), continue: next },
      items: this.items.slice(from, from + limit),
    };
    response.end(JSON.stringify(body));
  }

  /** Resolves when the n-th watch has been opened. */
  async watching(count: number): Promise<void> {
    if (this.watches.length >= count) return;
    await new Promise<void>(resolve => this.#waiting.push({ count, resolve }));
  }

  send(type: string, object: object): void {
    this.watches.at(-1)?.response.write(`${JSON.stringify({ type, object })}\n`);
  }
}

async function setUp(t: TestContext, options: Partial<ReflectOptions<z.infer<typeof Thing>, Row>> = {}) {
  const collection = new Collection();
  const server = createServer((request, response) => collection.handle(request, response));
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const stop = new AbortController();
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const client = new KubeClient(
    { server: url, credentials: async () => ({ tls: {} }) },
    { component: 'test' },
  );
  const table = new Table<Row>({ name: 'things', keyOf: row => row.name });
  const changes: Change<Row>[] = [];
  table.subscribe(change => changes.push(change));
  const start = () =>
    reflect(client, {
      path: '/apis/test/v1/things',
      schema: Thing,
      table,
      toRow: each => ({ name: each.metadata.name, size: each.spec.size }),
      signal: stop.signal,
      backoff: { first: 1, max: 5 },
      ...options,
    });
  t.after(() => {
    stop.abort();
    client.close();
    server.closeAllConnections();
    server.close();
  });
  return { collection, table, changes, start, stop };
}

/** Resolves when the table has announced a change for which `condition` holds. */
async function until<R>(table: Table<R>, condition: () => boolean): Promise<void> {
  if (condition()) return;
  await new Promise<void>(resolve => {
    const unsubscribe = table.subscribe(() => {
      if (!condition()) return;
      unsubscribe();
      resolve();
    });
  });
}

test('pages have as many objects as can be read without holding the event loop', async t => {
  const { collection, table, start } = await setUp(t);
  const limits: number[] = [];
  collection.onList = query => {
    limits.push(Number(query.get('limit')));
    return false;
  };
  const padded = (name: string, characters: number): object => ({
    ...thing(name, 1, 1),
    pad: 'x'.repeat(characters),
  });
  // Such as slices of 100 endpoints, then small ones.
  collection.items = [
    ...Array.from({ length: 200 }, (_, n) => padded(`large${n}`, 16_000)),
    ...Array.from({ length: 1100 }, (_, n) => padded(`small${n}`, 200)),
  ];
  start();
  await table.whenSynced();
  assert.equal(table.size, 1300);
  assert.equal(limits[0], 100);
  assert.ok(limits[1]! < 40, `${limits}`);
  assert.equal(limits.at(-1), 1000);
});

test('a burst of events is taken in while others have their turn, and nothing of it is lost', async t => {
  const { collection, table, start } = await setUp(t);
  start();
  await collection.watching(1);
  let turns = 0;
  const look = (): void => {
    turns++;
    if (table.size < 3000) setImmediate(look);
  };
  setImmediate(look);
  for (let n = 0; n < 3000; n++)
    collection.send('ADDED', { ...thing(`t${n}`, n + 2, n), pad: 'x'.repeat(2000) });
  await until(table, () => table.size === 3000);
  assert.ok(turns > 3, `${turns} turns`);
  assert.equal(collection.watches.length, 1);
});

test('lists in pages, then follows changes', async t => {
  const { collection, table, start } = await setUp(t, { pageSize: 2 });
  collection.items = [
    thing('a', 1, 1),
    thing('b', 2, 2),
    thing('c', 3, 3),
    thing('d', 4, 4),
    thing('e', 5, 5),
  ];
  collection.version = 5;
  const reflection = start();
  await table.whenSynced();
  assert.equal(table.size, 5);
  assert.equal(collection.lists, 3);
  await collection.watching(1);
  assert.equal(collection.watches[0]?.query.get('resourceVersion'), '5');
  collection.send('ADDED', thing('f', 6, 6));
  collection.send('MODIFIED', thing('a', 7, 70));
  collection.send('DELETED', thing('b', 8, 2));
  await until(table, () => !table.has('b'));
  assert.deepEqual(table.get('a'), { name: 'a', size: 70 });
  assert.ok(table.has('f'));
  assert.equal(reflection.resourceVersion, '8');
  assert.equal(reflection.connected, true);
});

test('a broken watch resumes from the last version heard, bookmarks included', async t => {
  const { collection, table, start } = await setUp(t);
  start();
  await collection.watching(1);
  collection.send('ADDED', thing('a', 4, 1));
  collection.send('BOOKMARK', { metadata: { resourceVersion: '9' } });
  await until(table, () => table.has('a'));
  collection.watches[0]?.response.socket?.destroy();
  await collection.watching(2);
  assert.equal(collection.watches[1]?.query.get('resourceVersion'), '9');
  assert.equal(collection.lists, 1);
});

test('an expired version lists again and changes only what differs', async t => {
  const { collection, changes, start } = await setUp(t);
  collection.items = [thing('same', 1, 1), thing('changed', 2, 2), thing('gone', 3, 3)];
  start();
  await collection.watching(1);
  changes.length = 0;
  collection.items = [thing('same', 1, 1), thing('changed', 12, 20), thing('new', 13, 4)];
  collection.version = 20;
  collection.send('ERROR', {
    kind: 'Status',
    code: 410,
    reason: 'Expired',
    message: 'too old resource version',
  });
  await collection.watching(2);
  assert.deepEqual(changes.map(each => each.key).sort(), ['changed', 'gone', 'new']);
  assert.equal(collection.watches[1]?.query.get('resourceVersion'), '20');
});

test('a list whose rest expires between pages is made in one piece', async t => {
  const { collection, table, start } = await setUp(t, { pageSize: 1 });
  collection.items = [thing('a', 1, 1), thing('b', 2, 2)];
  collection.onList = (query, response) => {
    if (!query.has('continue')) return false;
    response.writeHead(410).end(JSON.stringify({ kind: 'Status', code: 410, reason: 'Expired' }));
    return true;
  };
  start();
  await table.whenSynced();
  assert.deepEqual([...table.keys()].sort(), ['a', 'b']);
});

test('a bad object is reported by name, field and value; the others go on; its last good row stays', async t => {
  const reported: string[] = [];
  const { collection, table, start } = await setUp(t, {
    onBad: bad => reported.push(`${bad.object}: ${bad.error.message}`),
  });
  collection.items = [thing('bad', 1, 'big'), thing('good', 2, 2)];
  const reflection = start();
  await collection.watching(1);
  assert.deepEqual([...table.keys()], ['good']);
  assert.match(reported[0] ?? '', /^bad: spec\.size: .*expected number.*found "big"/);
  collection.send('MODIFIED', thing('good', 3, null));
  collection.send('MODIFIED', thing('bad', 4, 4));
  await until(table, () => table.has('bad'));
  assert.deepEqual(table.get('good'), { name: 'good', size: 2 });
  assert.deepEqual([...reflection.bad.keys()], ['good']);
  collection.send('DELETED', thing('good', 5, null));
  await until(table, () => !table.has('good'));
  assert.equal(reflection.bad.size, 0);
});

test('a refused or missing collection is tried until it is there', async t => {
  const errors: string[] = [];
  const { collection, table, start } = await setUp(t, { onError: error => errors.push(error.message) });
  let refusals = 3;
  collection.onList = (_query, response) => {
    if (refusals-- <= 0) return false;
    response.writeHead(404).end('404 page not found\n');
    return true;
  };
  const reflection = start();
  await table.whenSynced();
  assert.equal(errors.length, 3);
  assert.match(errors[0] ?? '', /GET \/apis\/test\/v1\/things: 404: 404 page not found/);
  await collection.watching(1);
  assert.equal(reflection.failing, undefined);
});

test('a silent watch is given up and resumed', async t => {
  const { collection, start } = await setUp(t, { silence: 40 });
  start();
  await collection.watching(2);
  assert.equal(collection.lists, 1);
});

test('aborting ends it, and no watch stays open', async t => {
  const { collection, start, stop } = await setUp(t);
  const reflection = start();
  await collection.watching(1);
  const closed = new Promise(resolve => collection.watches[0]?.response.on('close', resolve));
  stop.abort();
  await reflection.done;
  await closed;
});

test('10,000 objects become rows, and later events too', async t => {
  const { collection, table, start } = await setUp(t);
  collection.items = Array.from({ length: 10_000 }, (_, n) => thing(`thing-${n}`, n + 1, n));
  const cpu = process.cpuUsage();
  start();
  await table.whenSynced();
  const { user, system } = process.cpuUsage(cpu);
  assert.equal(table.size, 10_000);
  await collection.watching(1);
  const delays: number[] = [];
  for (let n = 0; n < 50; n++) {
    const sent = performance.now();
    collection.send('MODIFIED', thing('thing-1', 20_000 + n, -n));
    await until(table, () => table.get('thing-1')?.size === -n);
    delays.push(performance.now() - sent);
  }
  const median = delays.sort((a, b) => a - b)[25] ?? 0;
  t.diagnostic(
    `list ${(user + system) / 1000} ms CPU (server included), event to row ${median.toFixed(3)} ms`,
  );
});
