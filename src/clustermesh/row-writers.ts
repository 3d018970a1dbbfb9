import { canonicalPrefix } from '../api/prefix.ts';
import type { Table } from '../table/table.ts';
import { type Kind, type MirroredKind, readKinds } from './layout.ts';
import type { EntryWriter, RemoteConsumer } from './remote-consumer.ts';
import type { WritableRemoteTables } from './rows.ts';
import { parseServiceExport } from './service-export.ts';
import { ServiceRows } from './service-rows.ts';
import { type Origin, parseAddress, parseIdentity, parseNode } from './values.ts';

/** Writes what a cluster says into tables, after checking each value against its cluster and its key. */
export function rowConsumer(kinds: readonly Kind[], tables: WritableRemoteTables): RemoteConsumer {
  const services = new ServiceRows(tables.services);
  return {
    kinds: readKinds(kinds),
    // Beside services/v1 slices say the same.
    needs: (kind, { endpointSlicesExportMode: mode }) =>
      kind !== 'endpointslices' || mode === 'endpointslices-only',
    writer: (kind, origin) => {
      const below = (name: string): string => `${origin.cluster}/${name}`;
      const make: Record<MirroredKind, () => EntryWriter> = {
        nodes: () => rowWriter(origin, tables.nodes, parseNode, below),
        identities: () => rowWriter(origin, tables.identities, parseIdentity, name => name),
        ip: () =>
          rowWriter(origin, tables.endpoints, parseAddress, name => below(canonicalPrefix(name) ?? '')),
        services: () => services.values(origin),
        endpointslices: () => services.slices(origin),
        serviceexports: () => rowWriter(origin, tables.serviceExports, parseServiceExport, below),
      };
      return make[kind]();
    },
    listed: kind => {
      if (kind === 'endpointslices') services.slicesListed();
    },
  };
}

/** `keyOf`: the key of the row that an entry of this name makes, whatever its value. */
function rowWriter<Row extends { readonly cluster: string }>(
  origin: Origin,
  table: Table<Row>,
  parse: (key: string, rest: string, value: string, origin: Origin) => Row,
  keyOf: (name: string) => string,
): EntryWriter {
  const forget = (name: string): void => {
    const key = keyOf(name);
    // A name may be that of another cluster's row: then its value was refused.
    if (table.get(key)?.cluster === origin.cluster) table.delete(key);
  };
  return {
    put: (name, { key, value }) => void table.upsert(parse(key, name, value, origin)),
    delete: forget,
  };
}
