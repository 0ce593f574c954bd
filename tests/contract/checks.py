"""Every check of scikit-learn's `sklearn.utils.estimator_checks`, and what becomes of it where X is a list of crystals.

scikit-learn's own `check_estimator` runs a single check on estimators whose X is no table, and looks green.
"""

from __future__ import annotations

from typing import NamedTuple


class Used(NamedTuple):
    """It needs no X: scikit-learn's own function is called on every public estimator."""


class Rewritten(NamedTuple):
    """Tests in this folder ask the same with crystals as X."""

    tests: tuple[str, ...]


class NotApplicable(NamedTuple):
    """It makes no sense here."""

    why: str


def rewritten(*tests: str) -> Rewritten:
    return Rewritten(tests)


_USED = Used()
_TABLE = NotApplicable("X has no columns: a crystal is one item")
_SPARSE = rewritten("test_a_table_as_X_is_refused")
_MULTILABEL = NotApplicable("the classifier takes one label per crystal, and says so")
_CLUSTERER = NotApplicable("no estimator of the package clusters")
_OUTLIERS = NotApplicable("no estimator of the package detects outliers")
_ARRAY_API = NotApplicable("crystals are no arrays of another namespace; torch is used inside")
_POLARS = rewritten("test_set_output_polars")
_PANDAS = rewritten("test_set_output_pandas")

CHECKS: dict[str, Used | Rewritten | NotApplicable] = {
    "check_all_zero_sample_weights_error": rewritten("test_sample_weights_that_make_no_sense"),
    "check_array_api_input": _ARRAY_API,
    "check_array_api_input_and_values": _ARRAY_API,
    "check_array_api_mixed_inputs": _ARRAY_API,
    "check_array_api_same_namespace": _ARRAY_API,
    "check_class_weight_balanced_classifiers": rewritten("test_balanced_classes_are_weighted"),
    "check_class_weight_balanced_linear_classifier": NotApplicable("for linear classifiers, by their coefficients"),
    "check_class_weight_classifiers": rewritten("test_class_weights_win"),
    "check_classifier_data_not_an_array": rewritten("test_y_in_any_container"),
    "check_classifier_multioutput": _MULTILABEL,
    "check_classifier_not_supporting_multiclass": NotApplicable("the classifier supports many classes"),
    "check_classifiers_classes": rewritten("test_classes_of_any_kind"),
    "check_classifiers_multilabel_output_format_decision_function": _MULTILABEL,
    "check_classifiers_multilabel_output_format_predict": _MULTILABEL,
    "check_classifiers_multilabel_output_format_predict_proba": _MULTILABEL,
    "check_classifiers_multilabel_representation_invariance": _MULTILABEL,
    "check_classifiers_one_label": rewritten("test_one_class_is_an_error_that_says_so"),
    "check_classifiers_one_label_sample_weights": rewritten("test_one_class_is_an_error_that_says_so"),
    "check_classifiers_predictions": rewritten("test_classes_of_any_kind"),
    "check_classifiers_regression_target": rewritten("test_numbers_are_no_classes"),
    "check_classifiers_train": rewritten("test_classifier_learns", "test_crystals_and_y_of_unequal_length"),
    "check_clusterer_compute_labels_predict": _CLUSTERER,
    "check_clustering": _CLUSTERER,
    "check_complex_data": rewritten("test_a_table_as_X_is_refused", "test_complex_targets_are_refused"),
    "check_dataframe_column_names_consistency": _TABLE,
    "check_decision_proba_consistency": NotApplicable("no estimator has a decision_function"),
    "check_dict_unchanged": rewritten("test_predicting_changes_nothing"),
    "check_do_not_raise_errors_in_init_or_set_params": _USED,
    "check_dont_overwrite_parameters": rewritten("test_fit_returns_self_and_sets_only_fitted_attributes"),
    "check_dtype_object": rewritten("test_y_in_any_container", "test_wrong_item_is_named"),
    "check_estimator": NotApplicable("runs the other checks; it skips nearly all of them where X is no table"),
    "check_estimator_cloneable": _USED,
    "check_estimator_repr": _USED,
    "check_estimator_sparse_array": _SPARSE,
    "check_estimator_sparse_matrix": _SPARSE,
    "check_estimator_sparse_tag": _SPARSE,
    "check_estimator_tags_renamed": _USED,
    "check_estimators_data_not_an_array": rewritten("test_y_in_any_container", "test_containers_give_the_same_bits"),
    "check_estimators_dtypes": NotApplicable("X has no dtype; the kinds of y are in test_y_in_any_container"),
    "check_estimators_empty_data_messages": rewritten("test_no_crystals_are_an_error"),
    "check_estimators_fit_returns_self": rewritten("test_fit_returns_self_and_sets_only_fitted_attributes"),
    "check_estimators_nan_inf": rewritten("test_crystal_with_nan_or_infinity_is_named"),
    "check_estimators_overwrite_params": rewritten("test_fit_returns_self_and_sets_only_fitted_attributes"),
    "check_estimators_partial_fit_n_features": NotApplicable("no estimator has partial_fit; warm_start goes on"),
    "check_estimators_pickle": rewritten("test_copy_through_a_file_gives_the_same_bits"),
    "check_estimators_unfitted": rewritten("test_unfitted_is_an_error_of_scikit_learn"),
    "check_f_contiguous_array_estimator": rewritten("test_order_in_memory_does_not_matter"),
    "check_fit1d": rewritten("test_bare_structure_is_an_error_that_says_what_to_do"),
    "check_fit2d_1feature": rewritten("test_containers_give_the_same_bits"),
    "check_fit2d_1sample": rewritten("test_a_single_crystal"),
    "check_fit2d_predict1d": rewritten("test_bare_structure_is_an_error_that_says_what_to_do"),
    "check_fit_check_is_fitted": rewritten("test_check_is_fitted"),
    "check_fit_idempotent": rewritten("test_fitting_twice_gives_the_same_bits"),
    "check_fit_non_negative": NotApplicable("for estimators that need positive X"),
    "check_fit_score_takes_y": rewritten("test_y_is_the_second_argument"),
    "check_get_feature_names_out_error": rewritten("test_feature_names_of_an_unfitted_embedder"),
    "check_get_params_invariance": _USED,
    "check_global_output_transform_pandas": _PANDAS,
    "check_global_set_output_transform_polars": _POLARS,
    "check_inplace_ensure_writeable": rewritten("test_read_only_memory_is_enough"),
    "check_methods_sample_order_invariance": rewritten("test_order_of_the_crystals_does_not_matter"),
    "check_methods_subset_invariance": rewritten("test_a_crystal_gets_the_same_alone_as_among_others"),
    "check_mixin_order": _USED,
    "check_n_features_in": _TABLE,
    "check_n_features_in_after_fitting": _TABLE,
    "check_no_attributes_set_in_init": _USED,
    "check_non_transformer_estimators_n_iter": rewritten("test_number_of_epochs"),
    "check_nonsquare_error": NotApplicable("for estimators that take a matrix of distances"),
    "check_outlier_contamination": _OUTLIERS,
    "check_outlier_corruption": _OUTLIERS,
    "check_outliers_fit_predict": _OUTLIERS,
    "check_outliers_train": _OUTLIERS,
    "check_param_validation": _USED,
    "check_parameters_default_constructible": _USED,
    "check_pipeline_consistency": rewritten("test_alone_in_a_pipeline"),
    "check_positive_only_tag_during_fit": NotApplicable("X has no sign"),
    "check_readonly_memmap_input": rewritten("test_read_only_memory_is_enough"),
    "check_regressor_data_not_an_array": rewritten("test_y_in_any_container"),
    "check_regressor_multioutput": rewritten("test_regressor_learns_several_targets"),
    "check_regressors_int": rewritten("test_y_in_any_container"),
    "check_regressors_no_decision_function": rewritten("test_regressor_has_no_probabilities"),
    "check_regressors_train": rewritten("test_regressor_learns", "test_crystals_and_y_of_unequal_length"),
    "check_requires_y_none": rewritten("test_y_that_is_missing"),
    "check_sample_weight_equivalence_on_dense_data": rewritten("test_no_weight_is_as_good_as_left_out"),
    "check_sample_weight_equivalence_on_sparse_data": NotApplicable("crystals are no sparse matrix"),
    "check_sample_weights_list": rewritten("test_sample_weights_in_any_container"),
    "check_sample_weights_not_an_array": rewritten("test_sample_weights_in_any_container"),
    "check_sample_weights_not_overwritten": rewritten("test_sample_weights_in_any_container"),
    "check_sample_weights_pandas_series": rewritten("test_sample_weights_in_any_container"),
    "check_sample_weights_shape": rewritten("test_sample_weights_that_make_no_sense"),
    "check_set_output_transform": rewritten("test_set_output_default"),
    "check_set_output_transform_pandas": _PANDAS,
    "check_set_output_transform_polars": _POLARS,
    "check_set_params": _USED,
    "check_sparsify_coefficients": NotApplicable("for linear models"),
    "check_supervised_y_2d": rewritten("test_y_as_a_column"),
    "check_supervised_y_no_nan": rewritten("test_y_that_is_missing"),
    "check_transformer_data_not_an_array": rewritten("test_containers_give_the_same_bits"),
    "check_transformer_general": rewritten("test_fit_transform_is_fit_and_transform"),
    "check_transformer_get_feature_names_out": rewritten("test_feature_names"),
    "check_transformer_get_feature_names_out_pandas": rewritten("test_feature_names"),
    "check_transformer_n_iter": rewritten("test_number_of_epochs"),
    "check_transformer_preserve_dtypes": rewritten("test_dtype_of_the_vectors"),
    "check_transformers_unfitted": rewritten("test_unfitted_is_an_error_of_scikit_learn"),
    "check_transformers_unfitted_stateless": rewritten("test_graphs_without_fit"),
    "check_valid_tag_types": _USED,
}
