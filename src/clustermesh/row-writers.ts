import { canonicalPrefix } from '../api/prefix.ts';
import type { Entry } from '../kvstore/range.ts';
import type { RemoteService } from '../loadbalancer/remote-service.ts';
import type { Table } from '../table/table.ts';
import { requireServices } from './cluster-config.ts';
import { LARGE, LargeService } from './large-service.ts';
import type { Kind } from './layout.ts';
import type { EntryWriter, RemoteConsumer } from './remote-consumer.ts';
import type { WritableRemoteTables } from './rows.ts';
import { parseServiceExport } from './service-export.ts';
import { type Origin, parseAddress, parseIdentity, parseNode, parseService } from './values.ts';

/** Writes what a cluster says into tables, after checking each value against its cluster and its key. */
export function rowConsumer(
  cluster: string,
  kinds: readonly Kind[],
  tables: WritableRemoteTables,
): RemoteConsumer {
  return {
    kinds,
    check: config => {
      if (kinds.includes('services')) requireServices(cluster, config);
    },
    writer: (kind, origin) => {
      const below = (name: string): string => `${origin.cluster}/${name}`;
      const make: Record<Kind, () => EntryWriter> = {
        nodes: () => rowWriter(origin, tables.nodes, parseNode, below),
        identities: () => rowWriter(origin, tables.identities, parseIdentity, name => name),
        ip: () =>
          rowWriter(origin, tables.endpoints, parseAddress, name => below(canonicalPrefix(name) ?? '')),
        services: () => rowWriter(origin, tables.services, serviceParser(), below),
        serviceexports: () => rowWriter(origin, tables.serviceExports, parseServiceExport, below),
      };
      // Only what was asked for comes.
      return make[kind as Kind]();
    },
  };
}

/** Parsers of services' values, by the names of their entries: what a large one was is remembered, to read what differs. */
function serviceParser(): Parser<RemoteService> {
  const large = new Map<string, LargeService>();
  return {
    parse: (name, entry, origin) => {
      if (entry.bytes.length < LARGE) {
        large.delete(name);
        return parseService(entry.key, name, entry.value, origin);
      }
      const service = large.get(name) ?? new LargeService();
      large.set(name, service);
      return service.read(entry.key, name, entry, origin);
    },
    forget: name => large.delete(name),
  };
}

interface Parser<Row> {
  parse(name: string, entry: Entry, origin: Origin): Row | undefined;
  /** There is no entry of this name any more. */
  forget?(name: string): void;
}

/** `keyOf`: the key of the row that an entry of this name makes, whatever its value. */
function rowWriter<Row extends { readonly cluster: string }>(
  origin: Origin,
  table: Table<Row>,
  parser: Parser<Row> | ((key: string, rest: string, value: string, origin: Origin) => Row | undefined),
  keyOf: (name: string) => string,
): EntryWriter {
  const { parse, forget }: Parser<Row> =
    typeof parser === 'function'
      ? { parse: (name, { key, value }) => parser(key, name, value, origin) }
      : parser;
  const remove = (name: string): void => {
    const key = keyOf(name);
    // A name may be that of another cluster's row: then its value was refused.
    if (table.get(key)?.cluster === origin.cluster) table.delete(key);
  };
  return {
    put: (name, entry) => {
      const row = parse(name, entry, origin);
      if (row === undefined) remove(name);
      else table.upsert(row);
    },
    delete: name => {
      forget?.(name);
      remove(name);
    },
  };
}
