import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../package-root.ts';
import { ensureLabImages } from './images.ts';
import type { Report } from './timeline.ts';

/**
 * The image archives that every node of a lab starts with: the lab's own, and that of Isthmus as the sources of this
 * clone are now. An installed package has no sources; there the chart names a published image.
 */
export async function imageArchives(report: Report, signal?: AbortSignal): Promise<string[]> {
  const { path } = await ensureLabImages({ report, ...(signal && { signal }) });
  if (!existsSync(join(packageRoot, 'src/agent/main.ts'))) return [path];
  // Loaded here only: it brings what a clone has and a package has not.
  const { buildImage } = await import('../../deploy/image/build.ts');
  const isthmus = await buildImage({ report });
  return [path, isthmus.path];
}
