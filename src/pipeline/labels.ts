/** The labels of a source, without its clips. */
import { chooseLabels, listClips } from './data.js';
import { type DataConfig, filesOf, type SourceContext, tableOf, VOICEBENCH } from './sources.js';

/**
 * What `data.datasets` names, else what the source has: from a listing or footers, never from audio.
 *
 * @throws VoiceGrpoError E_DATA, E_HUB
 */
export async function labelsOf(config: DataConfig, context: SourceContext): Promise<string[]> {
  if (config.datasets.length > 0) {
    return [...config.datasets];
  }
  if (config.source === 'voicebench') {
    return [...VOICEBENCH.datasets];
  }
  const files = await filesOf(config, context);
  return files === null
    ? chooseLabels(listClips(config.source), [], config.source)
    : (await tableOf(config, files, [], [])).labels;
}
