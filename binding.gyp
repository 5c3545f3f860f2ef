# Thin on purpose: `node-gyp rebuild` runs the CMake build that `npm install` runs (tools/build.mjs).
{
  "targets": [
    {
      "target_name": "voicegrpo_cmake",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": [],
          "outputs": ["<(module_root_dir)/build/Release/voicegrpo.node"],
          "action": ["node", "<(module_root_dir)/tools/build.mjs"]
        }
      ]
    }
  ]
}
