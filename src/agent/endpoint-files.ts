/** Endpoints as files, one each, so that an agent knows after its restart what its predecessor promised. */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { type Endpoint, endpointSchema } from './endpoint.ts';

export interface EndpointFiles {
  /** All endpoints on file. A file that cannot be read is set aside as *.bad and told to `onBad`. */
  load(onBad: (file: string, reason: string) => void): Endpoint[];
  /** Writes whole or not at all. */
  save(endpoint: Endpoint): void;
  remove(id: number): void;
}

/** @param folder e.g. /run/isthmus/endpoints; made when missing. It is gone after a reboot, as the pods are. */
export function endpointFiles(folder: string): EndpointFiles {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = (id: number): string => join(folder, `${id}.json`);
  return {
    load(onBad) {
      const found: Endpoint[] = [];
      for (const name of readdirSync(folder)) {
        if (name.endsWith('.tmp')) rmSync(join(folder, name), { force: true });
        if (!name.endsWith('.json')) continue;
        const read = readEndpoint(join(folder, name));
        if (typeof read !== 'string') found.push(read);
        else {
          onBad(join(folder, name), read);
          renameSync(join(folder, name), join(folder, `${name}.bad`));
        }
      }
      return found;
    },
    save(endpoint) {
      const temporary = `${path(endpoint.id)}.tmp`;
      writeFileSync(temporary, `${JSON.stringify(endpoint)}\n`, { mode: 0o600 });
      renameSync(temporary, path(endpoint.id));
    },
    remove(id) {
      rmSync(path(id), { force: true });
    },
  };
}

/** The endpoint, or what is wrong with its file. */
function readEndpoint(file: string): Endpoint | string {
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  const parsed = endpointSchema.safeParse(content);
  return parsed.success ? parsed.data : z.prettifyError(parsed.error);
}
