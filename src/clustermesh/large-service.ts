import type { RemotePart, RemoteService } from '../loadbalancer/remote-service.ts';
import { parseJson } from './bad-value.ts';
import { JsonPieces } from './json-pieces.ts';
import { plainService, serviceSchema } from './service-value.ts';
import { backendsOf, type Origin, parseService, serviceRow } from './values.ts';

/** Bytes from which on a service's value is read by what differs. */
export const LARGE = 32 * 1024;

/** Fields with a member for each backend. Of zones nothing is read. */
const fields = ['backends', 'terminating', 'notReady', 'zones'] as const;
const nothing: RemotePart = {};

/** A value as it came. */
interface Value {
  readonly bytes: Uint8Array;
  /** As text, which nobody makes who does not ask for it. */
  readonly value: string;
}

/**
 * One large service of another cluster: ten thousand backends are half a megabyte, of which a change is some bytes. What
 * its values say of backends is in parts, and a part whose text is as before is the same object as before.
 */
export class LargeService {
  readonly #pieces = new JsonPieces<RemotePart>(fields);

  /** As `parseService`, and in the same words. @throws BadValue */
  read(key: string, rest: string, value: Value, origin: Origin): RemoteService | undefined {
    try {
      const { outline, objects } = this.#pieces.cut(value.bytes, (field, members) =>
        field === 'zones' ? nothing : backendsOf(key, field, members),
      );
      const service = parseJson(key, outline, serviceSchema, plainService);
      return serviceRow(key, rest, service, origin, objects);
    } catch {
      // It is unusual, or wrong: the whole has to say how.
      return parseService(key, rest, value.value, origin);
    }
  }
}
