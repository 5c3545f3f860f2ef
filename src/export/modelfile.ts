/** Ollama's Modelfile for an exported GGUF (https://docs.ollama.com/modelfile). */

/** Stands for the transcript while the prompt is made; a word that the prompt's own cleaning leaves as it is. */
export const PLACEHOLDER = 'VOICEGRPOTRANSCRIPT';

export interface ModelfileOptions {
  /** Path of the model from the Modelfile. */
  model: string;
  /** A whole prompt with PLACEHOLDER in the place of the transcript, without the token that begins a text. */
  prompt: string;
  /** Texts that end an answer. */
  stops: readonly string[];
  maxCompletionLength: number; // tokens
  maxPromptLength: number; // tokens
}

/** What is asked is the transcript alone; the template puts the rest around it. */
export function modelfile({ model, prompt, stops, maxCompletionLength, maxPromptLength }: ModelfileOptions): string {
  // Go's templates read braces; three quotes would end the text.
  const template = prompt
    .replaceAll('{{', '{{"{{"}}')
    .replaceAll('"""', '{{"\\"\\"\\""}}')
    .replaceAll(PLACEHOLDER, '{{ .Prompt }}');
  return [
    `FROM ./${model}`,
    `TEMPLATE """${template}"""`,
    // Taken as it stands: there are no escapes.
    ...stops.map((stop) => `PARAMETER stop ${stop.includes('"') ? `"""${stop}"""` : `"${stop}"`}`),
    'PARAMETER temperature 0',
    `PARAMETER num_predict ${maxCompletionLength}`,
    `PARAMETER num_ctx ${Math.max(512, maxPromptLength + maxCompletionLength)}`,
    '',
  ].join('\n');
}
